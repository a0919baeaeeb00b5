"""What a captured step costs: the graph alone, the loop around it, and the host's part (an NVIDIA GPU).

    python benchmarks/captured_step.py [--batch-size 64]

*Graph*: replays of the captured step in a row, and nothing else. *Loop*: the steps of a run with samples on the GPU.
*Host*: the time that Python takes to start the steps of a loop while the GPU has work left to do. Microseconds a step,
medians of rounds in turn.
"""

import argparse
import statistics
import time

import torch

from transit_cli.device.select import select
from transit_cli.training import workload
from transit_cli.training.settings import StepSettings

VIEWS = {"global": 2001, "local": 201}


def microseconds(work, steps, device):
    """Of the host, and until the device is done, for each of so many calls."""
    device.synchronize()
    begin = time.perf_counter()
    for _ in range(steps):
        work()
    started = time.perf_counter()
    device.synchronize()
    return [1e6 * (end - begin) / steps for end in (started, time.perf_counter())]


def measure(options, precision):
    device = select("cuda")
    settings = StepSettings(batch_size=options.batch_size, precision=precision, execution=options.execution)
    run = workload.build(settings, options.network, VIEWS, device)
    for _ in range(50):
        run.run_step()
    executor = run.runner.executor
    (graph,) = executor._graphs.values()  # noqa: SLF001 - the captured step itself
    inputs, rate = graph.inputs, executor._rate  # noqa: SLF001
    block = workload.SYNTHETIC_SAMPLES // options.batch_size

    def replays():
        """As many replays as an epoch has samples for, from its beginning."""
        inputs._counter.zero_()  # noqa: SLF001
        rate.counter.zero_()
        inputs._next = rate._next = -1  # noqa: SLF001 - where the host believes that they are
        for _ in range(block):
            graph.replay()

    found = {"graph": [], "loop": [], "host": []}
    for _ in range(options.rounds):
        found["graph"].append(microseconds(replays, 500 // block, device)[1] / block)
        found["loop"].append(microseconds(run.run_step, 500, device)[1])
        found["host"].append(microseconds(run.run_step, 20, device)[0])
    return {name: statistics.median(values) for name, values in found.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--network", default="two-branch")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--execution", default="triton")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(torch.cuda.get_device_name(), torch.__version__, options.network, options.batch_size, options.execution)
    for precision in ("fp32", "bf16"):
        found = measure(options, precision)
        speed = options.batch_size * 1e6 / found["loop"]
        print(
            precision, ", ".join(f"{name} {value:.0f} us" for name, value in found.items()), f"{speed:,.0f} samples/s"
        )


if __name__ == "__main__":
    main()
