"""Every figure that the documentation quotes, in one table and as JSON: `make bench`.

    python benchmarks/report.py [--device cuda] [--only train,startup] [--rounds 8] [--json build/bench.json]

Runs the other benchmarks one after another, each in a process of its own, and shows what they found: the ratio to what
it is compared with, what is wanted, and the share of this machine's limits. A benchmark that lacks a package or fails
is reported and left out. The documentation quotes only what this wrote.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from figure import Figure, load

from transit_cli.device import host

HERE = Path(__file__).parent
NETWORKS = ("two-branch", "astronet")


def commands(device: str, rounds: int) -> dict[str, list[list[str]]]:
    """The benchmarks that a machine can run, by the name of what they measure."""
    given = ["--device", device, "--rounds", str(rounds)]
    batches = ("64",) if device == "cpu" else ("64", "512")
    steps = [] if device == "cpu" else ["--steps", "120"]
    found = {
        "train": [
            ["train.py", "--network", network, "--batch", batch, *steps, *given]
            for network in NETWORKS
            for batch in batches
        ],
        "inference": [["inference.py", *given, *([] if device == "cpu" else ["--samples", "8192"])]],
        "search": [["search.py", "--device", device, "--rounds", "3"]],
        "batch": [["batch.py", "--device", device]],
    }
    if device == "cpu":
        found |= {
            "startup": [["startup.py", "--rounds", str(rounds)]],
            "doctor": [["doctor.py", "--rounds", "5"]],
            "loop": [["loop.py", "--rounds", str(max(3, rounds - 1))]],
            "views": [["views.py", "--rounds", "5"]],
            "members": [["members.py"]],
            "sets": [["sets.py", "simulate"]],
        }
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--only", default="", help="names of benchmarks, separated by commas")
    parser.add_argument("--json", type=Path, default=Path("build/bench.json"))
    options = parser.parse_args()
    known = commands(options.device, options.rounds)
    names = options.only.split(",") if options.only else list(known)
    if unknown := [name for name in names if name not in known]:
        parser.error(f"unknown benchmark {unknown[0]!r}; on {options.device} there are {', '.join(known)}")
    document = {"machine": machine(options.device), "figures": [], "failed": {}}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    for name in names:
        for command in known[name]:
            figures, failure = run(command)
            if failure:
                document["failed"][" ".join(command)] = failure
            document["figures"] += [asdict(figure) | {"benchmark": name} for figure in figures]
            options.json.write_text(json.dumps(document, indent=1))  # what is known if the next one is interrupted
            print(table(figures), end="", flush=True)
    document["machine"]["load_after"] = os.getloadavg()[0]
    options.json.write_text(json.dumps(document, indent=1))
    for what, failure in document["failed"].items():
        print(f"FAILED {what}: {failure}")
    print(f"{json.dumps(document['machine'])}\n{options.json}")
    return 0


def machine(device: str) -> dict[str, object]:
    """What the figures depend on."""
    import torch

    from transit_cli.device.select import select

    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "processor": host.processor_name(),
        "device": select(device).facts.name,
        "cores": host.usable_cores(),
        "load_before": os.getloadavg()[0],
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def run(command: list[str]) -> tuple[list[Figure], str]:
    """What a benchmark found, and why it found nothing."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        script = [sys.executable, str(HERE / command[0]), *command[1:], "--json", str(file)]
        done = subprocess.run(script, capture_output=True, text=True, check=False)
        if file.exists():
            return (of_search(json.loads(file.read_text())) if command[0] == "search.py" else load(file)), ""
    return [], (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:200]


def of_search(document: dict[str, Any]) -> list[Figure]:
    """The figures in what search.py writes, which has more than a table needs."""
    memory, peers = document.get("memory", {}), document.get("peers", {})
    if "search_per_second" not in memory:
        return []
    figures = [Figure("search, periodogram alone", memory["periodogram_per_second"], "stars/s")]
    figures.append(Figure("search, everything", memory["search_per_second"], "stars/s"))
    figures += [
        Figure(f"search, {peer}", peers[f"{peer}_seconds"], "s/star", "search", peers[f"{peer}_over_search_processor"])
        for peer in ("TLS", "BLS")
        if f"{peer}_seconds" in peers
    ]
    if "command_per_second" in document.get("files", {}):
        figures.append(Figure("search, whole command", document["files"]["command_per_second"], "stars/s"))
    return figures


def table(figures: list[Figure]) -> str:
    """One line a figure, 80 columns wide or as long as its name."""
    lines = []
    for figure in figures:
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f} x"
        wanted = "" if figure.wanted is None else f"{'<=' if figure.at_most else '>='} {figure.wanted:g}"
        share = ", ".join(f"{name} {value:.0%}" for name, value in figure.shares.items())
        mark = "" if figure.reached else "MISSED"
        value = f"{figure.value:,.0f}" if figure.value >= 100 else f"{figure.value:.3g}"
        lines.append(f"{figure.name:36}{value:>9} {figure.unit:9}{ratio:>8} {wanted:8}{mark:7}{share}".rstrip() + "\n")
    return "".join(lines)


if __name__ == "__main__":
    sys.exit(main())
