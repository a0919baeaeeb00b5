"""Scoring speed of `predict` and `evaluate` beside PyTorch's inference mode, on this machine: `make bench`.

    python benchmarks/inference.py [--samples 512] [--rounds 8] [--device cpu]

From the host's memory and back to it: the whole array at once through the network under `torch.inference_mode()`, and
`transit_cli.training.inference.logits`, each in a process of its own, in turn, since transit changes how its process
keeps memory. Ratios are medians over the rounds; those of processor time tell more on a machine that others use too.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from figure import Figure, save, shares

VIEWS = {"global": 2001, "local": 201}
#: How many times faster it has to be for 512 samples and more.
LIMIT = 2.0


def child(name, network, samples, kind):
    """Score once for each line on stdin; seconds by the wall and of the processors."""
    if name == "transit":
        from transit_cli.device import environment

        environment.prepare()
    import torch

    from transit_cli.model import registry

    torch.manual_seed(0)
    module = registry.build(network, VIEWS).eval().to(kind)
    inputs = {view: torch.randn(samples, length) for view, length in VIEWS.items()}

    def plain():
        with torch.inference_mode():
            module({view: values.to(kind) for view, values in inputs.items()}).cpu()

    def ours():
        inference.logits([module], inputs, device)

    work = plain
    if name == "transit":
        from transit_cli.device.select import select
        from transit_cli.training import inference

        device, work = select(kind), ours
    for _ in sys.stdin:
        begin = time.perf_counter(), time.process_time()
        work()
        print(json.dumps([time.perf_counter() - begin[0], time.process_time() - begin[1]]), flush=True)


def start(name, network, options):
    command = [sys.executable, __file__, "--child", name, "--network", network]
    command += ["--samples", str(options.samples), "--device", options.device]
    return subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def ask(process):
    process.stdin.write("\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--network", help=argparse.SUPPRESS)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.network, options.samples, options.device)
        return 0
    ratios, figures = [], []
    for network in ("two-branch", "astronet"):
        processes = [start(name, network, options) for name in ("plain", "transit")]
        turns = [[ask(process) for process in processes] for _ in range(options.rounds + 1)][1:]
        for process in processes:
            process.communicate()
        wall, work = (sorted(plain[kind] / ours[kind] for plain, ours in turns) for kind in (0, 1))
        ratios.append(statistics.median(wall))
        speed = options.samples / statistics.median(ours[0] for _, ours in turns)
        spread = f"{ratios[-1]:.2f} x inference_mode ({wall[0]:.2f} to {wall[-1]:.2f}"
        print(f"{network:12} {options.samples} samples: {speed:,.0f} samples/s, ", end="")
        print(f"{spread}; {statistics.median(work):.2f} of the processors' time)")
        if options.json:
            batch = min(options.samples, 512)
            of_limits = shares(network, "infer", batch, speed, options.device)
            wanted = LIMIT if options.device == "cpu" else None
            name, beside = f"score {network}, {options.samples} samples", "inference_mode"
            figures.append(
                Figure(
                    name, speed, "samples/s", beside, ratios[-1], (wall[0], wall[-1]), wanted, shares=of_limits
                )
            )  # fmt: skip
            save(options.json, figures)
    load = f"{options.device}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    print(f"{options.rounds} rounds, {load}; at least {LIMIT:g} x is wanted on a CPU")
    return int(options.device == "cpu" and min(ratios) < LIMIT)


if __name__ == "__main__":
    raise SystemExit(main())
