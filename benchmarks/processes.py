"""Two cores, or several GPUs: one process, several that train one network together, several that train a member each.

    python benchmarks/processes.py --network two-branch --batch-size 64 --rounds 8
    python benchmarks/processes.py --device cuda --processes 2 --steps 300 --rounds 3

The contenders take turns; each is new processes. Samples/s of all processes together, medians over the rounds, and as
ratios to the first contender. CPU time a sample hardly depends on what else runs; samples/s on a CPU need its cores to
themselves, or say nothing.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time

WARM_UP = 6
VIEWS = {"global": 2001, "local": 201}


def contenders(options):
    """Name: processes, threads of each, way, whether they train one network together."""
    count = options.processes
    if options.device == "cuda":
        return {
            "one GPU": (1, 4, "auto", False),
            f"{count}, together": (count, 4, "auto", True),
            f"{count}, a member each": (count, 4, "auto", False),
        }
    return {
        "one, as chosen": (1, count, "auto", False),
        "one, 1 thread": (1, 1, "onednn", False),
        f"{count}, together": (count, 1, "onednn", True),
        f"{count}, a member each": (count, 1, "onednn", False),
    }


def child(options):
    """One process: its seconds and CPU seconds for the steps, as JSON."""
    import torch

    from transit_cli.device.select import select
    from transit_cli.model import registry
    from transit_cli.training.batch import Batch
    from transit_cli.training.distributed import SINGLE_PROCESS, process_group
    from transit_cli.training.runner import StepRunner
    from transit_cli.training.settings import StepSettings
    from transit_cli.training.step import OptimizerStep

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    with process_group() as processes:
        torch.manual_seed(0)
        settings = StepSettings(execution=options.execution, batch_size=options.batch_size)
        network = registry.build(options.network, VIEWS)
        device = select(options.device)
        step = OptimizerStep(network, device, settings, 10**6)
        runner = StepRunner(step, processes if options.together else SINGLE_PROCESS)
        where, size = device.torch_device, options.batch_size
        inputs = {name: torch.randn(size, length, device=where) for name, length in VIEWS.items()}
        batch = Batch(inputs, torch.randint(2, (size,), device=where).float())
        for _ in range(WARM_UP):
            runner.run([batch])
        device.synchronize()
        processes.all_reduce_max(0)  # all begin together
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(options.steps):
            runner.run([batch])
            if options.together:
                processes.all_reduce_max(0)  # as the loop asks after every step whether a process has been told to stop
        device.synchronize()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(json.dumps([wall, cpu]))


def measured(options, count, threads, execution, together):
    """Samples/s of all processes, and CPU seconds a sample."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, __file__, "--child", "--execution", execution, "--network", options.network]
    command += ["--batch-size", str(options.batch_size), "--steps", str(options.steps), "--device", options.device]
    command += ["--together"] if together else []
    shared = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", "WORLD_SIZE": str(count)}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = [
        subprocess.Popen(
            command,
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    found = [json.loads(process.communicate()[0]) for process in started]
    samples = options.steps * options.batch_size * (1 if together else count)
    return samples / max(wall for wall, _ in found), sum(cpu for _, cpu in found) / samples


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="two-branch")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--execution", default="auto")
    parser.add_argument("--together", action="store_true")
    parser.add_argument("--child", action="store_true")
    options = parser.parse_args()
    if options.child:
        child(options)
        return
    racing = contenders(options)
    rounds = [{name: measured(options, *how) for name, how in racing.items()} for _ in range(options.rounds)]
    load = os.getloadavg()[0]
    print(f"{options.network}, batch {options.batch_size}, {options.rounds} rounds, load {load:.1f}")
    first = next(iter(racing))
    for name in racing:
        speed = statistics.median(found[name][0] for found in rounds)
        ratio = statistics.median(found[name][0] / found[first][0] for found in rounds)
        cpu = statistics.median(found[name][1] for found in rounds)
        print(f"  {name:24} {speed:8,.0f} samples/s  {ratio:5.2f} x  {cpu * 1e3:6.2f} CPU ms a sample")


if __name__ == "__main__":
    main()
