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
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from search_cases import CADENCE, DENSITIES, KINDS, SHORTEST, case, real_base

from transit_cli.search import star_batch
from transit_cli.search.engine import Engine, SearchPlan

if TYPE_CHECKING:
    from transit_cli.search.cells import Curve

BANDS = ((5, 7), (7, 10), (10, 20))
ENGINE = Engine(torch.device("cpu"), 4 << 20)


def plan_of(curve: Curve) -> SearchPlan:
    """A grid like that of TLS: periods up to half the light curve."""
    span = float(curve.time[-1] - curve.time[0])
    return star_batch.plan_for(curve.cells, curve.width, (SHORTEST, span / 2), DENSITIES)


def points(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    kept = curve.weight > 0
    return curve.time[kept], 1 - curve.deficit[kept] * curve.sigma


def run_transit(curves: list[Curve]) -> Iterator[dict[str, float]]:
    """Light curves of about the same length are searched together, as the command does."""
    groups: dict[tuple[float, int], list[int]] = {}
    for number, curve in enumerate(curves):
        groups.setdefault((curve.width, round(np.log2(curve.cells) * 20)), []).append(number)
    found: dict[int, dict[str, float]] = {}
    for numbers in groups.values():
        some = [curves[number] for number in numbers]
        peaks = star_batch.strongest_peaks(ENGINE, plan_of(max(some, key=lambda curve: curve.cells)), some)
        for number, peak in zip(numbers, peaks, strict=True):
            found[number] = {"snr": 0.0, "sde": 0.0, "period": 0.0}
            if peak is not None:
                found[number] = {"snr": peak.measured.snr, "sde": peak.sde, "period": peak.measured.period}
    yield from (found[number] for number in range(len(curves)))


def one_by_one(run: Callable[[Curve], dict[str, float]]) -> Callable[[list[Curve]], Iterator[dict[str, float]]]:
    return lambda curves: (run(curve) for curve in curves)


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


PROGRAMS: dict[str, Callable[[list[Curve]], Iterator[dict[str, float]]]] = {
    "transit": run_transit,
    "TLS": one_by_one(run_tls),
    "BLS": one_by_one(run_bls),
}
#: Light curves of a kind that are made and given to a program together.
TOGETHER = 16
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


def compute(run: Path, kinds: list[str], numbers: range, programs: list[str], base: list) -> None:
    """Run the programs on what they have not done; kinds alternate, so that a stopped run holds as many of each."""
    done = {program: read(run / f"{program}.jsonl") for program in programs}
    for first in range(numbers.start, numbers.stop, TOGETHER):
        for kind in kinds:
            some = range(first, min(first + TOGETHER, numbers.stop))
            cases = {number: case(kind, number, base) for number in some}
            curves = {number: made.curve() for number, made in cases.items()}
            digests = {number: digest_of(curve) for number, curve in curves.items()}
            for program in programs:
                left = [n for n in some if done[program].get((kind, n), {}).get("digest") != digests[n]]
                begin = time.process_time()
                rows: list[dict] = []
                for number, found in zip(left, PROGRAMS[program]([curves[n] for n in left]), strict=True):
                    made, end = cases[number], time.process_time()
                    row = {"kind": kind, "number": number, "digest": digests[number]}
                    row |= {"planet": made.period, "planet_snr": made.snr, **found, "seconds": round(end - begin, 4)}
                    rows.append(row)
                    begin = end
                    if program != "transit":
                        write(run / f"{program}.jsonl", [row])
                if program == "transit" and rows:
                    each = round(sum(row["seconds"] for row in rows) / len(rows), 4)
                    write(run / "transit.jsonl", [row | {"seconds": each} for row in rows])
        print(f"up to {some.stop} of {numbers.stop}", flush=True)


def write(file: Path, rows: list[dict]) -> None:
    with file.open("a") as stream:
        stream.write("".join(json.dumps(row) + "\n" for row in rows))


def report(run: Path, count: int) -> dict[str, dict]:
    """Tables of recall for each kind and together, over the light curves that all programs have done."""
    rows = {program: read(run / f"{program}.jsonl") for program in PROGRAMS}
    rows = {program: found for program, found in rows.items() if found}
    first = next(iter(rows.values()))
    common = [k for k in first if {found.get(k, {}).get("digest") for found in rows.values()} == {first[k]["digest"]}]
    common = sorted(key for key in common if key[1] < count)
    judged = {
        f"{program} {statistic.upper()}".replace("SNR", "S/N"): _judged(rows[program], common, statistic)
        for program, statistic in STATISTICS
        if program in rows
    }
    data = {kind: _table(kind, common, judged) for kind in (*KINDS, "all")}
    for program, lines in rows.items():
        for kind in KINDS:
            if spent := [lines[key]["seconds"] for key in common if key[0] == kind]:
                print(f"{program} {kind}: median {np.median(spent):.3f} s of processor time per light curve")
                data[kind][f"{program} seconds"] = float(np.median(spent))
    return data


def _judged(rows: dict[tuple[str, int], dict], keys: list[tuple[str, int]], statistic: str) -> dict[str, dict]:
    """Of one program: thresholds by kind; of each planet its S/N, whether it is found, whether the period is right."""
    limits: dict[str, float] = {}
    planets: dict[tuple[str, int], tuple[float, bool, bool]] = {}
    for kind in KINDS:
        here = {key: rows[key] for key in keys if key[0] == kind}
        free = [row[statistic] for row in here.values() if not row["planet"]]
        if not free:
            continue
        limits[kind] = float(np.quantile(free, 0.99))
        for key, row in here.items():
            if row["planet"]:
                right = abs(row["period"] / row["planet"] - 1) < 0.01
                planets[key] = row["planet_snr"], bool(right and row[statistic] > limits[kind]), right
    return {"limits": limits, "planets": planets}


def _table(kind: str, keys: list[tuple[str, int]], judged: dict[str, dict]) -> dict[str, Any]:
    here = [key for key in keys if kind in {key[0], "all"}]
    with_planet = [key for key in here if key in next(iter(judged.values()))["planets"]]
    strengths = np.array([next(iter(judged.values()))["planets"][key][0] for key in with_planet])
    bands = [(low <= strengths) & (strengths < high) for low, high in BANDS]
    title = "  ".join(f"S/N {low}-{high} ({some.sum()})" for (low, high), some in zip(BANDS, bands, strict=True))
    print(f"\n{kind}: {len(with_planet)} with a planet, {len(here) - len(with_planet)} without; {title}")
    data: dict[str, Any] = {"planets": len(with_planet), "without": len(here) - len(with_planet)}
    data["counts"] = [int(some.sum()) for some in bands]
    for label, one in judged.items():
        found = np.array([one["planets"][key][1] for key in with_planet], dtype=bool)
        shares = [100 * float(found[some].mean()) if some.any() else np.nan for some in bands]
        limit = one["limits"].get(kind, np.nan)
        print(f"  {label:12} above {limit:6.2f}" + "".join(f"{share:12.1f} %" for share in shares))
        data[label] = {"threshold": limit, "recall": shares}
    if "TLS SDE" in judged:
        strong = [
            k for k in with_planet if judged["TLS SDE"]["planets"][k][0] >= 10 and judged["TLS SDE"]["planets"][k][1]
        ]
        for label in ("transit S/N", "BLS SDE"):
            if label in judged and strong:
                share = 100 * float(np.mean([judged[label]["planets"][key][2] for key in strong]))
                print(f"  of {len(strong)} that TLS finds above S/N 10, {label}: {share:.1f} % within 1 %")
                data[f"{label} period"] = [len(strong), share]
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
        compute(options.run, kinds, range(options.first, options.cases), options.programs, base)
    (options.run / "recall.json").write_text(json.dumps(report(options.run, options.cases), indent=1))


if __name__ == "__main__":
    main()
