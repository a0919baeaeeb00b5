"""Two cores, several ways to use them: one process, two that train one network together, two that train a member each.

    python benchmarks/processes.py --network two-branch --batch-size 64 --rounds 8

The contenders take turns; each is new processes. Samples/s of all processes together, medians over the rounds, and as
ratios to `replicas`, what one process does by default on two free cores. CPU time a sample hardly depends on what else
runs; samples/s need two cores to themselves, or say nothing.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time

#: Name: processes, threads of each, way, whether they train one network together.
CONTENDERS = {
    "one, eager, 2 threads": (1, 2, "eager", False),
    "one, replicas": (1, 2, "replicas", False),
    "one, 1 thread": (1, 1, "channels-last", False),
    "two, together": (2, 1, "channels-last", True),
    "two, a member each": (2, 1, "channels-last", False),
}
WARM_UP = 3
VIEWS = {"global": 2001, "local": 201}


def child(options):
    """One process: its seconds and CPU seconds for the steps, as JSON."""
    import torch
    import torch.distributed as dist

    from transit_cli.device.select import select
    from transit_cli.model import registry
    from transit_cli.training.processes import ALONE, joined
    from transit_cli.training.settings import StepSettings
    from transit_cli.training.step import Batch, Step

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    with joined() as processes:
        torch.manual_seed(0)
        settings = StepSettings(way=options.way, batch_size=options.batch_size)
        network = registry.build(options.network, VIEWS)
        step = Step(network, select("cpu"), settings, 10**6, processes=processes if options.together else ALONE)
        inputs = {name: torch.randn(options.batch_size, length) for name, length in VIEWS.items()}
        batch = Batch(inputs, torch.randint(2, (options.batch_size,)).float())
        for _ in range(WARM_UP):
            step.step([batch])
        if processes.count > 1:
            dist.barrier()
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(options.steps):
            step.step([batch])
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(json.dumps([wall, cpu]))


def measured(options, count, threads, way, together):
    """Samples/s of all processes, and CPU seconds a sample."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, __file__, "--child", "--way", way, "--network", options.network]
    command += ["--batch-size", str(options.batch_size), "--steps", str(options.steps)]
    command += ["--together"] if together else []
    shared = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", "WORLD_SIZE": str(count)}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = [
        subprocess.Popen(command, env=os.environ | shared | {"RANK": str(rank)}, stdout=subprocess.PIPE, text=True)
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
    parser.add_argument("--way", default="")
    parser.add_argument("--together", action="store_true")
    parser.add_argument("--child", action="store_true")
    options = parser.parse_args()
    if options.child:
        child(options)
        return
    rounds = [{name: measured(options, *how) for name, how in CONTENDERS.items()} for _ in range(options.rounds)]
    load = os.getloadavg()[0]
    print(f"{options.network}, batch {options.batch_size}, {options.rounds} rounds, load {load:.1f}")
    for name in CONTENDERS:
        speed = statistics.median(found[name][0] for found in rounds)
        ratio = statistics.median(found[name][0] / found["one, replicas"][0] for found in rounds)
        cpu = statistics.median(found[name][1] for found in rounds)
        print(f"  {name:24} {speed:8,.0f} samples/s  {ratio:5.2f} x  {cpu * 1e3:6.2f} CPU ms a sample")


if __name__ == "__main__":
    main()
