"""From a light curve in memory to views, against the same chain written with lightkurve.

    python benchmarks/views.py [--rounds 5] [--stars 300]

lightkurve runs where it is installed (`pip install "transit-cli[fetch]"`). One core; four years of long cadence; the
chains run in turn, round after round, and the figures are medians. lightkurve gets its faster way of binning (means;
our bins are medians, and the local ones overlap four times), and its default flattening, a Savitzky-Golay filter of one
width, against our choice among twenty splines. Then `data prepare` on a made-up survey with one worker and with one per
core.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import tempfile
import time
import warnings
from pathlib import Path

# One core for either chain; set before NumPy is imported.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import numpy as np
from figure import Figure, save

from transit_cli.data.views.detrend import flatten
from transit_cli.data.views.folding import Signal, fold, phases
from transit_cli.data.views.make import KEPLER, make_views

SIGNAL = Signal(9.3, 2.1, 0.2)
#: How many times faster than lightkurve the chain has to be.
LIMIT = 10.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--stars", type=int, default=300, help="of the made-up survey for `data prepare`; 0 leaves it out"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    installed = importlib.util.find_spec("lightkurve") is not None
    if not installed:
        print('lightkurve is not installed, so left out (pip install "transit-cli[fetch]")')
    figures = [against_lightkurve(options.rounds)] if installed else []
    ratio = figures[0].ratio if figures else None
    if options.stars:
        figures += scaling(options.stars)
    save(options.json, figures)
    return int(ratio is not None and ratio < LIMIT)


def four_years() -> tuple[np.ndarray, np.ndarray]:
    """Long cadence with a day's gap a month: a star that turns in 13 days, transits of 0.1 %, noise of 0.01 %."""
    time_ = np.arange(0, 1460, 0.0204336)
    time_ = time_[time_ % 30 > 1]
    flux = 1 + 1e-3 * np.sin(2 * np.pi * time_ / 13) + np.random.default_rng(0).normal(0, 1e-4, len(time_))
    return time_, flux - 1e-3 * (np.abs(phases(time_, SIGNAL)[0]) < SIGNAL.duration / 2)


def against_lightkurve(rounds: int) -> Figure:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lightkurve

    time_, flux = four_years()
    curve = lightkurve.LightCurve(time=time_, flux=flux)
    inside = np.abs(phases(time_, SIGNAL)[0]) < SIGNAL.duration

    steps = {
        "ours": {"detrend": [], "fold": [], "views": []},
        "lightkurve": {"detrend": [], "fold": [], "views": []},
    }

    def timed(who: str, step: str, work: object) -> object:
        begin = time.perf_counter()
        found = work()
        steps[who][step].append(time.perf_counter() - begin)
        return found

    def theirs_binned(folded: object) -> None:
        reach = 4 * SIGNAL.duration
        near = folded[(folded.time.value > -reach) & (folded.time.value < reach)]
        for part, width in ((folded, SIGNAL.period / 2001), (near, 2 * reach / 201)):
            part.bin(time_bin_size=width)

    for _ in range(rounds + 1):
        flat = timed("ours", "detrend", lambda: flatten(time_, flux, [SIGNAL]))
        timed("ours", "fold", lambda flat=flat: fold(flat.time, flat.flux, SIGNAL))
        timed("ours", "views", lambda flat=flat: make_views(flat.time, flat.flux, SIGNAL, KEPLER))  # folds again itself
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = timed("lightkurve", "detrend", lambda: curve.flatten(mask=inside))
            folded = timed(
                "lightkurve",
                "fold",
                lambda theirs=theirs: theirs.fold(period=SIGNAL.period, epoch_time=SIGNAL.epoch),
            )
            timed("lightkurve", "views", lambda folded=folded: theirs_binned(folded))
    print(f"{len(time_):,} cadences to views of 2001 and 201 bins, one core, median of {rounds} rounds")
    print(f"lightkurve {lightkurve.__version__}, load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "")
    totals = {}
    for who, parts in steps.items():
        medians = {step: 1e3 * statistics.median(values[1:]) for step, values in parts.items()}
        if who == "ours":
            medians["fold"] = 0.0  # contained in the views
        totals[who] = sum(medians.values())
        print(f"  {who:11}" + "".join(f"{step} {value:8.1f} ms   " for step, value in medians.items()), end="")
        print(f"all {totals[who]:8.1f} ms")
    ratio = totals["lightkurve"] / totals["ours"]
    print(f"  ratio {ratio:.1f} (at least {LIMIT:.0f} is wanted)")
    return Figure("light curve to views", totals["ours"], "ms", "lightkurve", ratio, wanted=LIMIT)


def scaling(stars: int) -> list[Figure]:
    from astropy.io import fits

    from transit_cli.data.prepare import prepare
    from transit_cli.data.settings import PrepareSettings

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        time_, flux = four_years()
        columns = [fits.Column("TIME", "D", array=time_), fits.Column("PDCSAP_FLUX", "E", array=1e4 * flux)]
        table = fits.BinTableHDU.from_columns(columns)
        table.header.update({"BJDREFI": 2454833, "MISSION": "Kepler"})
        lines = ["kepid,tce_period,tce_time0bk,tce_duration"]
        (folder / "curves").mkdir()
        fits.HDUList([fits.PrimaryHDU(), table]).writeto(folder / "one.fits")
        for star in range(stars):
            os.link(folder / "one.fits", folder / "curves" / f"kplr{star:09d}-1_llc.fits")
            lines += [
                f"{star},{SIGNAL.period + 0.37 * planet},{SIGNAL.epoch},{24 * SIGNAL.duration}" for planet in range(3)
            ]
        (folder / "tces.csv").write_text("\n".join(lines) + "\n")
        print(f"data prepare, {stars} stars of four years, three signals each (processes start in these times)")
        times = {}
        for workers in dict.fromkeys((1, os.cpu_count() or 1)):
            begin = time.perf_counter()
            out = folder / f"set{workers}"
            prepare(
                PrepareSettings(catalog=folder / "tces.csv", light_curves=folder / "curves", out=out, workers=workers)
            )
            times[workers] = time.perf_counter() - begin
            rate = 3 * stars / times[workers]
            print(
                f"  {workers} worker(s): {times[workers]:.1f} s, {rate:.1f} TCEs/s, {times[1] / times[workers]:.2f} x"
            )
    return [
        Figure(
            f"data prepare, {workers} workers", 3 * stars / seconds, "TCEs/s", "one worker", times[1] / seconds
        )
        for workers, seconds in times.items()
        if workers > 1
    ]  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
