"""Recall of `transit search`, transitleastsquares and astropy's box least squares on the same light curves.

    python benchmarks/search_recall.py RUN [--cases 350] [--real FOLDER] [--programs transit TLS BLS]

Three kinds of light curves: simulated TESS (27 days at 10-minute cadence), simulated Kepler (90 days at 29.4 minutes),
and real ones with transits added (--real). Every other one has a planet, at a signal-to-noise ratio of 5 to 20 over
white noise and with at least three transits. All programs get the same detrended light curves. For each program and
kind, the threshold is the statistic that 1 in 100 light curves without a planet exceeds; a planet is found if its
statistic is above it and its period within 1 %. Statistics: S/N and SDE here, SDE of TLS, SDE of BLS.

RUN is a folder with a line per light curve and program. The same command resumes; a light curve whose detrended points
have changed is computed again. `--report` only prints the tables. TLS runs with its own defaults, BLS on the periods of
`transit search`.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from search_cases import CADENCE, DENSITIES, KINDS, SHORTEST, case, real_base

from transit_cli.search import star_batch
from transit_cli.search.cells import Curve
from transit_cli.search.engine import Engine, SearchPlan

BANDS = ((5, 7), (7, 10), (10, 20))
ENGINE = Engine(torch.device("cpu"), 4 << 20)


def plan_of(curve: Curve) -> SearchPlan:
    """A grid like that of TLS: periods up to half the light curve."""
    span = float(curve.time[-1] - curve.time[0])
    return star_batch.plan_for(curve.cells, curve.width, (SHORTEST, span / 2), DENSITIES)


def points(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    kept = curve.weight > 0
    return curve.time[kept], 1 - curve.deficit[kept] * curve.sigma


def run_transit(curve: Curve) -> dict[str, float]:
    peak = star_batch.strongest_peaks(ENGINE, plan_of(curve), [curve])[0]
    if peak is None:
        return {"snr": 0.0, "sde": 0.0, "period": 0.0}
    return {"snr": peak.measured.snr, "sde": peak.sde, "period": peak.measured.period}


def run_tls(curve: Curve) -> dict[str, float]:
    from transitleastsquares import transitleastsquares

    when, flux = points(curve)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = transitleastsquares(when, flux, np.full(len(when), curve.sigma), verbose=False)
        result = model.power(show_progress_bar=False, verbose=False, use_threads=1)
    return {"sde": float(result.SDE), "period": float(result.period)}


def run_bls(curve: Curve) -> dict[str, float]:
    from astropy.timeseries import BoxLeastSquares

    when, flux = points(curve)
    periods = plan_of(curve).periods
    durations = 0.04 * 1.35 ** np.arange(6)
    result = BoxLeastSquares(when, flux, curve.sigma).power(periods, durations[durations < periods[0] / 2])
    power = np.sqrt(np.maximum(2 * np.asarray(result.power), 0))
    sde = star_batch.detection_efficiency(power, float(len(when)))
    return {"sde": float(sde.max()), "period": float(periods[int(np.argmax(sde))])}


PROGRAMS: dict[str, Callable[[Curve], dict[str, float]]] = {"transit": run_transit, "TLS": run_tls, "BLS": run_bls}
PACKAGES = {"TLS": "transitleastsquares", "BLS": "astropy"}
STATISTICS = (("transit", "snr"), ("transit", "sde"), ("TLS", "sde"), ("BLS", "sde"))


def digest_of(curve: Curve) -> str:
    """Of the points that the programs get, to 6 digits of the noise: detrending again may differ in the last bits."""
    when, flux = points(curve)
    rounded = np.rint((flux - 1) / curve.sigma * 1e3).astype(np.int64), np.rint(when * 86400).astype(np.int64)
    return hashlib.sha256(b"".join(item.tobytes() for item in rounded)).hexdigest()[:16]


def read(file: Path) -> dict[tuple[str, int], dict]:
    """The lines of a program's file; a line that a killed run left unfinished is passed over."""
    found: dict[tuple[str, int], dict] = {}
    for line in file.read_text().splitlines() if file.exists() else ():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        found[row["kind"], row["number"]] = row
    return found


def cases_of(kinds: list[str], first: int, count: int) -> Iterator[tuple[str, int]]:
    """Kinds alternate, so that a run that is stopped holds as many of each."""
    for number in range(first, count):
        for kind in kinds:
            yield kind, number


def compute(run: Path, kinds: list[str], numbers: tuple[int, int], programs: list[str], base: list) -> None:
    done = {program: read(run / f"{program}.jsonl") for program in programs}
    last = time.monotonic()
    for kind, number in cases_of(kinds, *numbers):
        made = case(kind, number, base)
        curve = made.curve()
        digest = digest_of(curve)
        for program in programs:
            if done[program].get((kind, number), {}).get("digest") == digest:
                continue
            begin = time.process_time()
            found = PROGRAMS[program](curve)
            seconds = round(time.process_time() - begin, 4)
            row = {"kind": kind, "number": number, "digest": digest, "planet": made.period, "planet_snr": made.snr}
            with (run / f"{program}.jsonl").open("a") as stream:
                stream.write(json.dumps(row | found | {"seconds": seconds}) + "\n")
        if time.monotonic() - last > 60:
            print(f"{kind} {number}", flush=True)
            last = time.monotonic()


def report(run: Path, count: int) -> dict[str, dict]:
    """Tables of recall for each kind and together, over the light curves that all programs have done."""
    rows = {program: read(run / f"{program}.jsonl") for program in PROGRAMS}
    rows = {program: found for program, found in rows.items() if found}
    common = [key for key in next(iter(rows.values())) if all(key in found for found in rows.values())]
    common = sorted(key for key in common if key[1] < count)
    names = [pair for pair in STATISTICS if pair[0] in rows]
    found: dict[str, dict[tuple[str, int], bool]] = {}
    same: dict[str, dict[tuple[str, int], bool]] = {}
    thresholds: dict[str, dict[str, float]] = {}
    for program, statistic in names:
        label = f"{program} {statistic.upper()}".replace("SNR", "S/N")
        found[label], same[label], thresholds[label] = {}, {}, {}
        for kind in KINDS:
            here = [rows[program][key] for key in common if key[0] == kind]
            free = [row[statistic] for row in here if not row["planet"]]
            if not free:
                continue
            thresholds[label][kind] = limit = float(np.quantile(free, 0.99))
            for row in here:
                if row["planet"]:
                    right = abs(row["period"] / row["planet"] - 1) < 0.01
                    same[label][kind, row["number"]] = right
                    found[label][kind, row["number"]] = bool(right and row[statistic] > limit)
    first = next(iter(rows))
    strength = {key: rows[first][key]["planet_snr"] for key in common}
    data: dict[str, dict] = {}
    for kind in (*KINDS, "all"):
        keys = [key for key in common if key[0] == kind or kind == "all"]
        planets = [key for key in keys if strength[key]]
        if not planets:
            continue
        counts = [sum(low <= strength[key] < high for key in planets) for low, high in BANDS]
        title = "  ".join(f"S/N {low}-{high} ({n})" for (low, high), n in zip(BANDS, counts, strict=True))
        print(f"\n{kind}: {len(planets)} with a planet, {len(keys) - len(planets)} without; {title}")
        data[kind] = {"planets": len(planets), "without": len(keys) - len(planets), "counts": counts}
        for label, right in found.items():
            shares = [
                100 * float(np.mean([right[key] for key in planets if low <= strength[key] < high] or [np.nan]))
                for low, high in BANDS
            ]
            limit = thresholds[label].get(kind, np.nan)
            print(f"  {label:12} above {limit:6.2f}" + "".join(f"{share:12.1f} %" for share in shares))
            data[kind][label] = {"threshold": limit, "recall": shares}
        if "TLS SDE" in found:
            strong = [key for key in planets if strength[key] >= 10 and found["TLS SDE"][key]]
            for label in ("transit S/N", "BLS SDE"):
                if label in same and strong:
                    share = 100 * float(np.mean([same[label][key] for key in strong]))
                    print(f"  of {len(strong)} that TLS finds above S/N 10, {label}: {share:.1f} % within 1 %")
                    data[kind][f"{label} period"] = share
    for program, lines in rows.items():
        for kind in KINDS:
            spent = [lines[key]["seconds"] for key in common if key[0] == kind]
            if spent:
                print(f"{program} {kind}: median {np.median(spent):.3f} s of processor time per light curve")
    return data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of results")
    parser.add_argument("--cases", type=int, default=350, help="light curves of each kind, half of them with a planet")
    parser.add_argument(
        "--first", type=int, default=0, help="number of the first, for a second process beside the first"
    )
    parser.add_argument("--real", type=Path, help="a folder of light curves to inject into")
    parser.add_argument("--programs", nargs="*", default=list(PROGRAMS), choices=list(PROGRAMS))
    parser.add_argument("--report", action="store_true", help="only print the tables")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.run.mkdir(parents=True, exist_ok=True)
    if not options.report:
        missing = [
            name for name in options.programs if name in PACKAGES and not importlib.util.find_spec(PACKAGES[name])
        ]
        if missing:
            sys.exit(f"not installed: {', '.join(PACKAGES[name] for name in missing)}")
        kinds = [*CADENCE] + (["real"] if options.real else [])
        base = real_base(options.real, options.run / "base.npz") if options.real else []
        compute(options.run, kinds, (options.first, options.cases), options.programs, base)
    (options.run / "recall.json").write_text(json.dumps(report(options.run, options.cases), indent=1))


if __name__ == "__main__":
    main()
