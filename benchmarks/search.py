"""`transit search` against transitleastsquares and astropy's box least squares, on the same light curves in one run.

    python benchmarks/search.py [--stars 200] [--noise 200] [--device cuda] [--real FOLDER] [--speed-only]

Recall: planets of the simulation (`transit data simulate`) at a signal-to-noise ratio of 5 to 20 in light curves of 27
days of TESS at 10-minute cadence (--mission tess), 90 days of Kepler at 29.4 minutes (--mission kepler), or injected
into the light curves of a folder (--real). All programs get the same detrended light curves. For each, the threshold is
the highest statistic of 1 in 100 light curves without a planet; a planet is found if its statistic is above that and
its period within 1 %. Statistics: S/N here, SDE of TLS, SDE of BLS.

Speed: light curves per second of the periodogram, of a whole search with measured signals, and of the peers, by
wall-clock time in this run. Peers that are not installed are left out, and reported (pip install transitleastsquares).
Without exoplanet-core the planets are transits of the search's own template.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from transit_cli.search import star_batch, template
from transit_cli.search.cells import Curve
from transit_cli.search.engine import Engine
from transit_cli.search.signals.measurement import phase_of
from transit_cli.search.star_batch import Limits

CADENCE = {"tess": 10 / 1440, "kepler": 0.02043361}
DENSITIES = (0.1, 10.0)
#: The grid of TLS for the Sun: periods from 0.6 days to half the light curve.
SHORTEST = 0.6
BANDS = ((5, 7), (7, 10), (10, 20))


@dataclass(frozen=True)
class Case:
    """A light curve, and the period that is in it (0 for none), at which S/N."""

    time: np.ndarray
    flux: np.ndarray
    period: float
    snr: float


def simulated(rng: np.random.Generator, mission: str, snr: float, red: float) -> Case:
    """A light curve with a planet of a given S/N over the white noise (0 for none)."""
    cadence = CADENCE[mission]
    length = 27.0 if mission == "tess" else 90.0
    grid = cadence * np.arange(int(length / cadence))
    middle = 13.2 if mission == "tess" else 30.0
    kept = (grid % (13.5 if mission == "tess" else 31.0) < middle - 0.3) & (rng.random(len(grid)) > 0.01)
    when = grid[kept] + 1400.0
    noise = 10 ** rng.uniform(-3.7, -2.7)
    flux = rng.standard_normal(len(grid)) + red * rng.exponential(0.35) * red_noise(rng, len(grid), cadence)
    flux = 1 + noise * flux[kept]
    period = 0.0
    if snr:
        while True:
            dip, period = planet(rng, when, cadence, 0.48 * length)
            strength = float(np.sqrt((dip**2).sum()))
            if period > 1.05 * SHORTEST and strength > 0 and len(cycles_of(when, dip, period)) > 2:
                break
        flux += dip * (snr * noise / strength)
    return Case(when, flux, period, snr)


def cycles_of(when: np.ndarray, dip: np.ndarray, period: float) -> np.ndarray:
    inside = when[dip < 0.5 * dip.min()]
    return np.unique(np.rint((inside - inside[0]) / period))


def red_noise(rng: np.random.Generator, count: int, cadence: float) -> np.ndarray:
    from transit_cli.data.simulation.instrument import red_noise

    return red_noise(rng, count, cadence)


def planet(rng: np.random.Generator, when: np.ndarray, cadence: float, longest: float) -> tuple[np.ndarray, float]:
    """[n] the light that a planet takes, at most 0, and its period."""
    if importlib.util.find_spec("exoplanet_core") is None:
        period = float(np.exp(rng.uniform(np.log(0.7), np.log(longest))))
        duration = 0.0757 * period ** (1 / 3) * rng.uniform(0.5, 1.4)
        phase = phase_of(when, period, when[0] + rng.random() * period)
        return -template.shape(phase / (duration / 2)), period
    from transit_cli.data.simulation import systems

    system = systems.planet(rng, when, cadence, longest)
    return system.flux, system.signal.period


def into_real(rng: np.random.Generator, curves: list[tuple[np.ndarray, np.ndarray, float]], snr: float) -> Case:
    """A planet in one of the real light curves, whose own signals are masked."""
    when, flux, cadence = curves[int(rng.integers(len(curves)))]
    flux = flux.copy()
    shift = int(rng.integers(len(flux)))
    flux = np.roll(flux, shift)  # another noise each time
    period = 0.0
    if snr:
        span = when[-1] - when[0]
        noise = 1.4826 * float(np.median(np.abs(np.diff(flux)))) / np.sqrt(2)
        while True:
            dip, period = planet(rng, when, cadence, 0.48 * span)
            strength = float(np.sqrt((dip**2).sum()))
            if period > 1.05 * SHORTEST and strength > 0 and len(cycles_of(when, dip, period)) > 2:
                break
        flux += dip * (snr * noise / strength)
    return Case(when, flux, period, snr)


def real_curves(folder: Path) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Detrended light curves of a folder, without the transits that a search finds on them."""
    from transit_cli.data.lightcurves.file_index import FileIndex
    from transit_cli.search.source import Light, read_star, tasks_of

    index = FileIndex.of(folder)
    found = []
    for task in tasks_of(index.by_star, "", 10 / 1440 * 4):
        light = read_star(task)
        if not isinstance(light, Light):
            continue
        plan = star_batch.plan_for(light.curve.cells, light.width, (0.5, 30.0), DENSITIES)
        engine = Engine(torch.device("cpu"), 16 << 20)
        signals = star_batch.search(engine, plan, [light.curve], Limits(signals=4), [light.detrended])[0]
        masked = np.zeros(len(light.time), dtype=bool)
        for signal in signals:
            masked |= signal.measured.inside(light.time, 1.5)
        curve = light.detrended(masked)
        kept = ~masked & (curve.weight > 0)
        found.append((curve.time[kept], 1 - curve.deficit[kept] * curve.sigma, light.width))
    return found


def curve_of(case: Case, width: float) -> Curve:
    from transit_cli.search.source import detrend

    return detrend(case.time, case.flux, np.ones(len(case.time)), width)


def flat(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    kept = curve.weight > 0
    return curve.time[kept], 1 - curve.deficit[kept] * curve.sigma


class Ours:
    """The search, with its grid like that of TLS: periods up to half the light curve."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        self.engine = Engine(self.device, (4 << 20) if device == "cpu" else (512 << 20))
        self.plans: dict[tuple[int, float], object] = {}

    def plan(self, curves: list[Curve]):
        cells, width = max(curve.cells for curve in curves), curves[0].width
        span = curves[0].time[-1] - curves[0].time[0]
        key = (cells, width)
        if key not in self.plans:
            self.plans[key] = star_batch.plan_for(cells, width, (SHORTEST, span / 2), DENSITIES)
        return self.plans[key]

    def __call__(self, curves: list[Curve]) -> list[tuple[float, float, float]]:
        """Of each light curve: S/N, SDE and period of the best peak."""
        plan = self.plan(curves)
        return [
            (peak.measured.snr, peak.sde, peak.measured.period) if peak else (0.0, 0.0, 0.0)
            for peak in star_batch.strongest_peaks(self.engine, plan, curves)
        ]

    def periodogram(self, curves: list[Curve]) -> None:
        star_batch.signal_to_noise(self.engine, self.plan(curves), curves)


def run_tls(curve: Curve) -> tuple[float, float]:
    from transitleastsquares import transitleastsquares

    when, flux = flat(curve)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = transitleastsquares(when, flux, np.full(len(when), curve.sigma), verbose=False)
        result = model.power(show_progress_bar=False, verbose=False, use_threads=len(os.sched_getaffinity(0)))
    return float(result.SDE), float(result.period)


def run_bls(curve: Curve, periods: np.ndarray) -> tuple[float, float]:
    from astropy.timeseries import BoxLeastSquares

    when, flux = flat(curve)
    durations = 0.04 * 1.35 ** np.arange(6)
    power = np.asarray(
        BoxLeastSquares(when, flux, curve.sigma).power(periods, durations[durations < periods[0] / 2]).power
    )
    sde = star_batch.detection_efficiency(np.sqrt(np.maximum(2 * np.asarray(power), 0)), float(len(when)))
    return float(sde.max()), float(periods[int(np.argmax(sde))])


def recall(cases: list[Case], curves: list[Curve], ours: Ours, peers: list[str], save: Path | None) -> None:
    """Statistics and periods of every program on every light curve, and the share that is found."""
    found: dict[str, list[tuple[float, float]]] = {"transit S/N": [], "transit SDE": []}
    size = 32
    for first in range(0, len(curves), size):
        for snr, sde, period in ours(curves[first : first + size]):
            found["transit S/N"].append((snr, period))
            found["transit SDE"].append((sde, period))
    plan = ours.plan(curves[:size])
    for peer in peers:
        run = run_tls if peer == "TLS" else (lambda curve: run_bls(curve, plan.periods))
        found[peer] = []
        begin = time.monotonic()
        for number, curve in enumerate(curves):
            found[peer].append(run(curve))
            if time.monotonic() - begin > 60:
                print(f"  {peer}: {number + 1} of {len(curves)}", flush=True)
                begin = time.monotonic()
    if save:
        rows = {"period": [c.period for c in cases], "snr": [c.snr for c in cases], **found}
        save.write_text(json.dumps(rows))
    report(np.array([c.period for c in cases]), np.array([c.snr for c in cases]), found)


def report(period: np.ndarray, snr: np.ndarray, found: dict[str, list[tuple[float, float]]]) -> None:
    names = [f"S/N {low}-{high}" for low, high in BANDS]
    print(
        f"{'':14}{'threshold':>10}"
        + "".join(f"{name:>11}" for name in names)
        + "   (recall at 1 % false alarms, period within 1 %)"
    )
    right: dict[str, np.ndarray] = {}
    for name, pairs in found.items():
        statistic, at = np.array(pairs).T
        threshold = float(np.quantile(statistic[period == 0], 0.99))
        same = np.abs(at / np.where(period > 0, period, 1) - 1) < 0.01
        right[name] = same & (statistic > threshold)
        shares = []
        for low, high in BANDS:
            some = (snr >= low) & (snr < high)
            shares.append(f"{100 * right[name][some].mean():>9.1f} %" if some.any() else f"{'-':>11}")
        print(f"{name:14}{threshold:>10.2f}" + "".join(shares))
    if "TLS" in right:
        strong = right["TLS"] & (snr > 10)
        share = 100 * right["transit S/N"][strong].mean()
        print(f"of {strong.sum()} that TLS finds above S/N 10, {share:.1f} % are found here")


def speed(curves: list[Curve], ours: Ours, peers: list[str], rounds: int) -> None:
    def timed(work, count: int, of: str) -> float:
        work()
        best = np.inf
        for _ in range(rounds):
            if ours.device.type == "cuda":
                torch.cuda.synchronize()
            begin = time.perf_counter()
            work()
            best = min(best, time.perf_counter() - begin)
        print(f"{of:40}{1e3 * best / count:>10.2f} ms per light curve {count / best:>10.1f} per second")
        return best / count

    plan = ours.plan(curves)
    where = f"{ours.device.type}, {torch.get_num_threads()} threads"
    print(f"\n{len(curves)} light curves of {plan.count} cells, {len(plan.periods)} periods, {where}")
    grid = timed(lambda: ours.periodogram(curves), len(curves), "periodogram")
    whole = timed(lambda: star_batch.search(ours.engine, plan, curves, Limits()), len(curves), "search, measured")
    timed(lambda: ours.periodogram(curves[:1]), 1, "periodogram, one light curve alone")
    for peer in peers:
        run = run_tls if peer == "TLS" else (lambda curve: run_bls(curve, plan.periods))
        each = timed(lambda run=run: [run(curve) for curve in curves[:2]], 2, peer)
        print(f"{'':40}{each / grid:>10.1f} x the periodogram's time, {each / whole:.1f} x the search's")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stars", type=int, default=200, help="light curves with a planet")
    parser.add_argument("--noise", type=int, default=200, help="light curves without one")
    parser.add_argument("--mission", choices=tuple(CADENCE), default="tess")
    parser.add_argument("--real", type=Path, help="inject into the light curves of this folder instead")
    parser.add_argument("--red", type=float, default=1.0, help="of the simulation's red noise; 0 for white noise alone")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--batch", type=int, default=0, help="light curves of the speed test; 64 on a CPU, 1,024 on a GPU"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--speed-only", action="store_true")
    parser.add_argument("--recall-only", action="store_true")
    parser.add_argument("--without", nargs="*", default=(), help="peers to leave out: TLS BLS")
    parser.add_argument("--save", type=Path, help="statistics of every light curve, as JSON")
    options = parser.parse_args()
    peers = []
    for name, package in (("TLS", "transitleastsquares"), ("BLS", "astropy")):
        if importlib.util.find_spec(package) is None:
            print(f"{package} is not installed, so left out")
        elif name not in options.without:
            peers.append(name)
    rng = np.random.default_rng(options.seed)
    ours = Ours(options.device)
    if not options.speed_only:
        strengths = [*np.exp(rng.uniform(np.log(5), np.log(20), options.stars)), *np.zeros(options.noise)]
        if options.real:
            real = real_curves(options.real)
            cases = [into_real(rng, real, snr) for snr in strengths]
            for one in real:
                some = [c for c in cases if len(c.time) == len(one[0])]
                print(f"light curve of {len(one[0])} points: {len(some)} cases")
        else:
            cases = [simulated(rng, options.mission, snr, options.red) for snr in strengths]
        widths = [round(float(np.median(np.diff(case.time))) * 86400) / 86400 for case in cases]
        curves = [curve_of(case, width) for case, width in zip(cases, widths, strict=True)]
        recall(cases, curves, ours, peers, options.save)
    if not options.recall_only:
        count = options.batch or (64 if options.device == "cpu" else 1024)
        some = []
        for _ in range(min(count, 64)):
            case = white(rng)
            some.append(Curve.of(case.time, case.flux, np.ones(len(case.time)), CADENCE["tess"]))
        speed([replace(some[k % len(some)]) for k in range(count)], ours, peers, options.rounds)


def white(rng: np.random.Generator) -> Case:
    """27 days at 10-minute cadence: white noise, a planet of S/N 12 in one of ten."""
    when = CADENCE["tess"] * np.arange(3888)
    flux = 1 + 1e-3 * rng.standard_normal(len(when))
    if rng.random() < 0.1:
        phase = phase_of(when, 3.3, 1.2)
        dip = template.shape(phase / 0.06)
        flux -= dip * (12e-3 / np.sqrt((dip**2).sum()))
    return Case(when, flux, 3.3, 12)


if __name__ == "__main__":
    main()
