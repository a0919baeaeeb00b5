"""Training speed compared with other frameworks on this machine: `make bench`.

    python benchmarks/train.py [--network two-branch] [--batch 64] [--rounds 8] [--steps 12] [--device cpu]

Lightning and Accelerate run if they are installed (pip install lightning accelerate). Every framework runs in a process
of its own, and they take turns (`transit_cli/bench/frameworks.py`). Figures are medians over rounds; ratios are medians
of each round's ratio to Lightning, or to the plain loop if Lightning is not installed.
"""

import argparse
import os
import tempfile
from pathlib import Path

from figure import Figure, save, shares

from transit_cli.bench import frameworks

VIEWS = {"global": 2001, "local": 201}
#: The ratios to Lightning that are wanted, by device, network and batch.
WANTED = {
    ("cpu", "two-branch", 64): 2.9,
    ("cpu", "astronet", 64): 1.8,
    ("cuda", "two-branch", 64): 40,
    ("cuda", "two-branch", 512): 16,
    ("cuda", "astronet", 64): 15,
    ("cuda", "astronet", 512): 4,
}
FRAMEWORKS = ("lightning", "accelerate", "plain", "transit-one-thread", "transit")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--network", default="two-branch")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--frameworks", default=",".join(FRAMEWORKS), help="which to compare, with commas between")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    config = frameworks.BenchmarkConfig(options.network, VIEWS, options.batch, options.device)
    load = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache  # the way of the step is chosen here and now
        comparison = frameworks.compare_frameworks(
            config,
            options.rounds,
            options.steps,
            names=tuple(options.frameworks.split(",")),
            after=lambda _: load.append(os.getloadavg()[0]),
        )
    what = f"{options.network}, batch {options.batch}, {options.rounds} rounds of {options.steps} steps"
    own = "(the benchmark itself makes about 2)"
    print(f"{what}, {os.cpu_count()} cores, load {min(load):.1f} to {max(load):.1f} {own}")
    for item in comparison.results:
        spread = f"{item.ratio:5.2f} x {comparison.baseline} ({item.ratios[0]:.2f} to {item.ratios[-1]:.2f})"
        print(f"{item.name:20} {item.samples_per_second:8,.0f} samples/s  {spread}  {item.execution}".rstrip())
    own, figures = "transit", []
    for item in comparison.results:
        if not options.json or item.name == comparison.baseline:
            continue
        of_limits, wanted = {}, None
        if item.name == own:
            of_limits = shares(options.network, "train", options.batch, item.samples_per_second, options.device)
            if comparison.baseline == "lightning":
                wanted = WANTED.get((options.device, options.network, options.batch))
        name = f"train {options.network} {options.batch}" + ("" if item.name == own else f", {item.name}")
        limits = (item.ratios[0], item.ratios[-1])
        figures.append(
            Figure(
                name, item.samples_per_second, "samples/s", comparison.baseline, item.ratio, limits, wanted,
                shares=of_limits,
            )
        )  # fmt: skip
    save(options.json, figures)
    if comparison.absent:
        print(f"not installed and skipped: {', '.join(comparison.absent)} (pip install {' '.join(comparison.absent)})")


if __name__ == "__main__":
    main()
