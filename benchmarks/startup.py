"""How fast `transit` starts, as ratios to what any program pays: python benchmarks/startup.py [--rounds 15].

Every command runs as a process of its own, in turn, round after round, so that a busy moment hits all of them; the
figures are medians. The yardsticks are `python -c pass` and the `--help` of a Typer program with one command; and, in
processor time, `import torch` for what computes: `predict` of one light curve with its picture, and `train` on a small
set up to the end of its first step, with the choice of an execution.
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

import numpy as np
from figure import Figure, save

from transit_cli.data import viewset
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
VIEWS = {"global": 2001, "local": 201}
#: The command it is held against, and how many times its time is allowed.
LIMITS = {"--version": ("python -c pass", 3.0), "Tab": ("typer --help", 0.5), "--help": ("typer --help", 1.25)}
COMMAND_LIMIT = ("typer --help", 1.6)
#: The most processor time that computing commands may take, as a multiple of `import torch`.
COMPUTING = {"predict": 2.0, "train, first step": 2.5}
#: Ends the process after the first step of a training; imports what `transit train` would, in its way.
FIRST_STEP = """
import os, sys
from transit_cli.utils.packages import collector_paused
with collector_paused(freeze=True):
    from transit_cli.training.execution.base import Executor
run = Executor.run
def first(*arguments, **named):
    run(*arguments, **named)
    os._exit(0)
Executor.run = first
from transit_cli.__main__ import main
main()
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Bytecode is kept, as after an installation, whatever this process was told.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
        program = folder / "one_command.py"
        program.write_text(ONE_COMMAND)
        computing = measure(computing_commands(folder), options.rounds)
        times = measure(commands(program), options.rounds)
    figures = of_computing(computing) + of_starting(times)
    report(times, figures, options.rounds)
    save(options.json, figures)
    return int(not all(figure.reached for figure in figures))


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


def computing_commands(folder: Path) -> dict[str, tuple[list[str], dict[str, str]]]:
    """`import torch`, and the first answer of commands that compute, on data that are made in `folder`."""
    random = np.random.default_rng(0)
    time_ = 2000 + np.arange(0, 27, 10 / 1440)
    flux = 1 + random.normal(0, 1e-3, len(time_)) - 0.01 * ((time_ - 2001) % 3 < 0.1)
    (folder / "star").mkdir()
    write_fits(folder / "star" / "star.fits", time_, flux)
    rows = 300
    views = {name: random.normal(size=(rows, size)).astype(np.float32) for name, size in VIEWS.items()}
    tces = {
        "star": np.array([f"TIC {number}" for number in range(rows)]),
        "signal": np.array(["1"] * rows),
        "label": np.where(np.arange(rows) % 2, "PC", "J"),
        "split": np.where(np.arange(rows) % 5, "train", "val"),
    }
    viewset.write(folder / "set", views, tces, {"kind": "benchmark", "simulated": True})
    predict = ["predict", folder / "star" / "star.fits", "--period", 3, "--epoch", 2001.05, "--duration", 2.4]
    train = ["train", folder / "set", "--device", "cpu", "--out"]
    # No run is named twice, and none remembers the execution that another has chosen.
    fresh = ["-c", f"import os, sys, tempfile; os.environ['XDG_CACHE_HOME'] = tempfile.mkdtemp(dir={str(folder)!r})\n"]
    fresh[1] += "sys.argv = [*sys.argv, os.environ['XDG_CACHE_HOME'] + '/run']\n" + FIRST_STEP
    return {
        "import torch": ([sys.executable, "-c", "import torch"], {}),
        "predict": ([sys.executable, "-m", "transit_cli", *map(str, predict), "--out", str(folder / "out")], {}),
        "train, first step": ([sys.executable, *fresh, *map(str, train)], {}),
    }


def write_fits(file: Path, time_: np.ndarray, flux: np.ndarray) -> None:
    """A light curve with the columns of TESS's files."""
    from astropy.io import fits

    table = fits.BinTableHDU.from_columns(
        [
            fits.Column("TIME", "D", array=time_ - 2000 + 1400),
            fits.Column("PDCSAP_FLUX", "E", array=1e4 * flux),
            fits.Column("QUALITY", "J", array=np.zeros(len(time_), np.int32)),
        ],
        name="LIGHTCURVE",
    )
    table.header.update({"BJDREFI": 2457000, "BJDREFF": 0.0, "TIMEUNIT": "d"})
    head = fits.PrimaryHDU()
    head.header.update({"TELESCOP": "TESS", "OBJECT": "TIC 1", "TICID": 1, "SECTOR": 1})
    fits.HDUList([head, table]).writeto(file)


def measure(runs: dict[str, tuple[list[str], dict[str, str]]], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds of wall-clock and of processor time of each command in each round.

    A first round, not counted, warms the disk cache.
    """
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for counted in [False] + [True] * rounds:
        for name, (command, extra) in runs.items():
            begin, before = time.perf_counter(), os.times()
            done = subprocess.run(command, env=os.environ | extra, capture_output=True, check=False)
            after = os.times()
            if done.returncode and name in COMPUTING:
                raise RuntimeError(f"{name} failed: {done.stderr.decode()[-2000:]}")
            if counted:
                processor = after.children_user + after.children_system - before.children_user - before.children_system
                times[name].append((time.perf_counter() - begin, processor))
    return times


def of_computing(times: dict[str, list[tuple[float, float]]]) -> list[Figure]:
    """Processor time beside that of `import torch` in the same round."""
    base = [processor for _, processor in times["import torch"]]
    figures = []
    for name, limit in COMPUTING.items():
        own = [processor for _, processor in times[name]]
        ratios = sorted(mine / torch for mine, torch in zip(own, base, strict=True))
        figures.append(
            Figure(
                f"start of {name}", statistics.median(own), "s (CPU)", "import torch", statistics.median(ratios),
                (ratios[0], ratios[-1]), limit, at_most=True,
            )
        )  # fmt: skip
    return figures


def of_starting(times: dict[str, list[tuple[float, float]]]) -> list[Figure]:
    """Wall-clock time of what imports no torch."""
    median = {name: statistics.median(wall for wall, _ in values) for name, values in times.items()}
    figures = []
    for name, seconds in median.items():
        if name not in {"python -c pass", "typer --help"}:
            base, limit = LIMITS.get(name, COMMAND_LIMIT)
            ratio = seconds / median[base]
            figures.append(Figure(name, 1e3 * seconds, "ms", base, ratio, wanted=limit, at_most=True))
    return figures


def report(times: dict[str, list[tuple[float, float]]], figures: list[Figure], rounds: int) -> None:
    """Print the table."""
    for name in ("python -c pass", "typer --help"):
        print(f"{name:30}{1e3 * statistics.median(wall for wall, _ in times[name]):8.0f} ms")
    for figure in figures:
        spread = f" ({figure.range[0]:.2f} to {figure.range[1]:.2f})" if figure.range else ""
        line = f"{figure.name:30}{figure.value:8.3g} {figure.unit}   {figure.ratio:.2f} x {figure.beside}{spread}"
        print(f"{line} (limit {figure.wanted}){'' if figure.reached else '  TOO SLOW'}")
    print(f"{rounds} interleaved rounds; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    sys.exit(main())
