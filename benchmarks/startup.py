"""How fast `transit` starts, as ratios to what any program pays: python benchmarks/startup.py [--rounds 15].

Every command runs as a process of its own, in turn, round after round, so that a busy moment hits all of them; the
figures are medians. The yardsticks are `python -c pass` and the `--help` of a Typer program with one command.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from transit_cli.discovery import discover

ONE_COMMAND = '''
import typer

app = typer.Typer()


@app.command()
def hello(count: int = 1) -> None:
    """Say hello."""


if __name__ == "__main__":
    app()
'''
#: The command it is held against, and how many times its time is allowed.
LIMITS = {"--version": ("python -c pass", 3.0), "Tab": ("typer --help", 0.5), "--help": ("typer --help", 1.25)}
COMMAND_LIMIT = ("typer --help", 1.6)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "one_command.py"
        program.write_text(ONE_COMMAND)
        times = measure(commands(program), rounds)
    return report(times, rounds)


def commands(program: Path) -> dict[str, tuple[list[str], dict[str, str]]]:
    """What is run, by name: the command line and what it adds to the environment."""
    transit = Path(sys.executable).with_name("transit")
    script = [str(transit)] if transit.exists() else [sys.executable, "-m", "transit_cli"]
    tab = {"_TRANSIT_COMPLETE": "complete_bash", "COMP_WORDS": "transit ", "COMP_CWORD": "1"}
    return {
        "python -c pass": ([sys.executable, "-c", "pass"], {}),
        "typer --help": ([sys.executable, str(program), "--help"], {}),
        "--version": ([*script, "--version"], {}),
        "Tab": (script, tab),
        "--help": ([*script, "--help"], {}),
    } | {f"{name} --help": ([*script, name, "--help"], {}) for name in discover().used}


def measure(runs: dict[str, tuple[list[str], dict[str, str]]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each command in each round; a first round, not counted, warms the disk cache."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for counted in [False] + [True] * rounds:
        for name, (command, extra) in runs.items():
            start = time.perf_counter()
            subprocess.run(command, env=os.environ | extra, capture_output=True, check=False)
            if counted:
                times[name].append(time.perf_counter() - start)
    return times


def report(times: dict[str, list[float]], rounds: int) -> int:
    """Print the table; 1 if a limit is passed."""
    median = {name: statistics.median(values) for name, values in times.items()}
    failed = False
    print(f"{'':22}{'median ms':>10}{'min':>7}   ratio of the medians")
    for name, seconds in median.items():
        line = f"{name:22}{seconds * 1e3:10.0f}{min(times[name]) * 1e3:7.0f}"
        if name not in {"python -c pass", "typer --help"}:
            base, limit = LIMITS.get(name, COMMAND_LIMIT)
            ratio = seconds / median[base]
            failed |= ratio > limit
            line += f"   {ratio:.2f} x {base} (limit {limit}){'  TOO SLOW' if ratio > limit else ''}"
        print(line)
    print(f"{rounds} interleaved rounds; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
