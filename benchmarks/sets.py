"""Importing, simulating and preparing view sets: against the PyPI package `tfrecord`, against training, by cores.

    python benchmarks/sets.py import FOLDER [--rounds 5]     needs `pip install tfrecord`
    python benchmarks/sets.py simulate [--tces 4000] [--mission kepler]
    python benchmarks/sets.py prepare FILE PERIOD EPOCH HOURS [--stars 300] [--files 4] [--rounds 3]

`import` reads every feature of every record into arrays, with both in turn; ours verifies the checksums, theirs does
not. `simulate` makes a set as the command does, on all cores, then trains the guide's network on it for two epochs,
again by the command, and takes the seconds that its epochs took. `prepare` copies a FITS light curve of a Kepler
quarter and its signal to so many stars of so many quarters each, and makes a set of them in one process and on all
cores, in turns; then of 8 stars.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    importing = commands.add_parser("import")
    importing.add_argument("folder", type=Path)
    importing.add_argument("--rounds", type=int, default=5)
    simulating = commands.add_parser("simulate")
    simulating.add_argument("--tces", type=int, default=4000)
    simulating.add_argument("--mission", default="kepler")
    preparing = commands.add_parser("prepare")
    preparing.add_argument("file", type=Path)
    preparing.add_argument("signal", type=float, nargs=3, metavar=("PERIOD", "EPOCH", "HOURS"))
    preparing.add_argument("--stars", type=int, default=300)
    preparing.add_argument("--files", type=int, default=4)
    preparing.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.command == "import":
        return int(against_tfrecord(options.folder, options.rounds) < 5)
    if options.command == "prepare":
        return by_cores(options)
    return int(against_training(options.tces, options.mission) > 1)


def against_tfrecord(folder: Path, rounds: int) -> float:
    from tfrecord.reader import tfrecord_loader

    from transit_cli.data import tfrecord

    files = sorted(path for path in folder.iterdir() if tfrecord.is_tfrecord(path))

    def ours() -> int:
        return sum(len(next(iter(tfrecord.read(file).values())).counts) for file in files)

    def theirs() -> int:
        return sum(1 for file in files for _ in tfrecord_loader(str(file), None))

    spent: dict[str, list[float]] = {"ours": [], "tfrecord": []}
    for _ in range(rounds):
        for name, read in (("ours", ours), ("tfrecord", theirs)):
            begin = time.perf_counter()
            count = read()
            spent[name].append(time.perf_counter() - begin)
    ratios = [their / our for our, their in zip(spent["ours"], spent["tfrecord"], strict=True)]
    for name, seconds in spent.items():
        print(f"{name:10} {statistics.median(seconds):.3f} s for {count:,} records")
    print(f"ratio      {statistics.median(ratios):.1f} (rounds {min(ratios):.1f} to {max(ratios):.1f})")
    return statistics.median(ratios)


def against_training(tces: int, mission: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        out, run = Path(folder) / "set", Path(folder) / "run"
        command = [sys.executable, "-m", "transit_cli"]
        simulated = [*command, "data", "simulate", out, "--tces", str(tces), "--mission", mission, "--quiet"]
        begin = time.perf_counter()
        subprocess.run([*map(str, simulated), "--views", "2001/201"], check=True)
        simulating = time.perf_counter() - begin
        trained = [*command, "train", out, "--run-dir", run, "--epochs", "2", "--device", "cpu", "--json", "--quiet"]
        begin = time.perf_counter()
        done = subprocess.run([*map(str, trained)], check=True, capture_output=True, text=True)
        whole = time.perf_counter() - begin
    document = json.loads(done.stdout)["data"]
    epochs = float(document.get("seconds", whole))
    print(f"simulate {tces:,} {mission}-like TCEs at 2001/201: {simulating:.1f} s ({tces / simulating:,.0f} TCEs/s)")
    print(f"train them for 2 epochs: {epochs:.1f} s in the loop, {whole:.1f} s with the start")
    print(f"ratio {simulating / epochs:.2f} of the loop, {simulating / whole:.2f} of the command")
    return simulating / epochs


def by_cores(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spent: dict[tuple[int, str], list[float]] = {}
        peaks: dict[tuple[int, str], float] = {}
        for round_, stars, workers in (
            (r, s, w) for r in range(options.rounds) for s in (options.stars, 8) for w in "10"
        ):
            survey = _survey(folder / f"of-{stars}", options, stars)
            command = [sys.executable, "-m", "transit_cli", "data", "prepare", survey / "tces.csv", survey / "curves"]
            command += [folder / f"set-{stars}-{workers}-{round_}", "--workers", workers, "--quiet"]
            begin = time.perf_counter()
            peak = _peak_mib(subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL))
            spent.setdefault((stars, workers), []).append(time.perf_counter() - begin)
            peaks[stars, workers] = max(peak, peaks.get((stars, workers), 0.0))
    for (stars, workers), seconds in spent.items():
        how = "one process" if workers == "1" else "all cores  "
        whole = statistics.median(seconds)
        peak = f"largest process {peaks[stars, workers]:.0f} MiB"
        print(f"{stars:5,} stars, {how} {whole:6.2f} s, {stars / whole:5.1f} stars/s; {peak}")
    ratios = [one / all_ for one, all_ in zip(spent[options.stars, "1"], spent[options.stars, "0"], strict=True)]
    spread = f"(rounds {min(ratios):.2f} to {max(ratios):.2f})"
    print(f"all cores are {statistics.median(ratios):.2f} times one process {spread}")
    return 0


def _survey(folder: Path, options: argparse.Namespace, stars: int) -> Path:
    """A catalog and light curves: copies of one file, a year apart from another in their names and times."""
    if folder.exists():
        return folder
    from astropy.io import fits

    (folder / "curves").mkdir(parents=True)
    period, epoch, hours = options.signal
    for quarter in range(options.files):
        with fits.open(options.file) as hdus:
            hdus[1].data["TIME"] += 372.0 * quarter
            for star in range(1, stars + 1):
                hdus[0].header["KEPLERID"] = star
                hdus.writeto(folder / "curves" / f"kplr{star:09d}-{2009 + quarter}350155506_llc.fits")
    rows = "".join(f"{star},{period},{epoch},{hours},1000,PC\n" for star in range(1, stars + 1))
    (folder / "tces.csv").write_text(f"kepid,tce_period,tce_time0bk,tce_duration,tce_depth,av_training_set\n{rows}")
    return folder


def _peak_mib(process: subprocess.Popen[bytes]) -> float:
    """The largest resident memory of the process or one of its children, looked at until it ends."""
    import psutil

    peak = 0
    while process.poll() is None:
        try:
            whole = psutil.Process(process.pid)
            peak = max(peak, *(one.memory_info().rss for one in (whole, *whole.children(recursive=True))))
        except psutil.Error:
            pass
        time.sleep(0.05)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return peak / 2**20


if __name__ == "__main__":
    sys.exit(main())
