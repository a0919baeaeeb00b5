"""How fast `transit search` is, phase by phase, on any device; and whether the device finds what the CPU finds.

    python benchmarks/search.py --device cuda --json search.json
    python benchmarks/search.py --device cpu --threads 2 --batch 64 --files 32     # beside TLS and BLS, if installed

1. Light curves in memory (27 days at 10-minute cadence, white noise, a planet in one of ten): periodogram, search with
   all that it measures, and where the time of that goes.
2. The same light curves searched on the CPU: periodograms, and every signal's figures, must agree.
3. FITS files like those of TESS's two-minute targets: reading and detrending on one core, with all workers, and the
   whole command from the files to the catalog. From these rates: the time of a sector of 20,000 stars.

Without astropy the third part is left out, and peers that are not installed. Recall is measured by search_recall.py.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import time
import traceback
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from search_cases import CADENCE, DENSITIES, SHORTEST, transits
from search_files import from_files

from transit_cli.device.host import usable_cores
from transit_cli.search import engine, star_batch
from transit_cli.search.blocks import BLOCK, BUDGET
from transit_cli.search.cells import Curve
from transit_cli.search.engine import Engine, SearchPlan
from transit_cli.search.signals import peaks
from transit_cli.search.star_batch import Limits

SECTOR = 20_000
#: What the phases of a search are, by the functions that do them.
PHASES = {
    "averages on the grid": (Curve, "on_grid"),
    "transfer": (Engine, "load"),
    "noise of single events": (engine, "noise_by_width"),
    "periodogram": (Engine, "periodogram"),
    "single transits": (star_batch, "_singles"),
    "peaks located": (peaks, "locate"),
    "signals fitted": (star_batch, "measure_all"),
    "detection efficiency": (star_batch, "detection_efficiency"),
    "notes": (star_batch, "notes_of"),
}


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def light_curves(count: int, seed: int = 0) -> list[Curve]:
    """27 days at 10-minute cadence: white noise, and in one of ten a planet of S/N 8 to 20 with a period of its own."""
    rng = np.random.default_rng(seed)
    when = CADENCE["tess"] * np.arange(3888)
    curves = []
    for number in range(count):
        flux = 1 + 1e-3 * rng.standard_normal(len(when))
        if number % 10 == 0:
            flux -= transits(rng, when)
        curves.append(Curve.of(when, flux, np.ones(len(when)), CADENCE["tess"]))
    return curves


def plan_of(curves: list[Curve]) -> SearchPlan:
    span = float(curves[0].time[-1] - curves[0].time[0])
    return star_batch.plan_for(curves[0].cells, curves[0].width, (SHORTEST, span / 2), DENSITIES)


def batches(curves: list[Curve], size: int) -> list[list[Curve]]:
    return [curves[first : first + size] for first in range(0, len(curves), size)]


def best_of(work: Callable[[], object], rounds: int, device: torch.device) -> tuple[float, float]:
    """The least wall-clock time and the least processor time of this process, which other work disturbs less."""
    work()  # compiles and caches
    best = [np.inf, np.inf]
    for _ in range(rounds):
        wait(device)
        begin = time.perf_counter(), time.process_time()
        work()
        wait(device)
        best = [min(best[0], time.perf_counter() - begin[0]), min(best[1], time.process_time() - begin[1])]
    return best[0], best[1]


@contextmanager
def timed_phases(device: torch.device) -> Iterator[dict[str, float]]:
    """Seconds in each phase, with the device synchronized at their ends: their sum is more than without."""
    spent: dict[str, float] = defaultdict(float)
    originals = [(owner, name, getattr(owner, name)) for owner, name in PHASES.values()]

    def timing(phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            wait(device)
            begin = time.perf_counter()
            done = function(*arguments, **named)
            wait(device)
            spent[phase] += time.perf_counter() - begin
            return done

        return timed

    try:
        for phase, (owner, name, function) in zip(PHASES, originals, strict=True):
            setattr(owner, name, timing(phase, function))
        yield spent
    finally:
        for owner, name, function in originals:
            setattr(owner, name, function)


def in_memory(options: argparse.Namespace, machine: Engine, device: torch.device) -> dict[str, Any]:
    curves = light_curves(options.batch)
    plan = plan_of(curves)
    groups = batches(curves, BLOCK[device.type])
    print(f"\n{len(curves)} light curves of {plan.count} cells, {len(plan.periods)} periods, {len(groups[0])} together")

    def periodogram() -> None:
        for some in groups:
            star_batch.signal_to_noise(machine, plan, some)

    def search() -> list[list[star_batch.Found]]:
        return [found for some in groups for found in star_batch.search(machine, plan, some, Limits())]

    figures: dict[str, Any] = {"light_curves": len(curves), "periods": len(plan.periods), "block": len(groups[0])}
    for name, work in (("periodogram", periodogram), ("search", search)):
        seconds, processor = best_of(work, options.rounds, device)
        figures[f"{name}_per_second"] = len(curves) / seconds
        figures[f"{name}_processor_ms"] = 1e3 * processor / len(curves)
        print(
            f"{name:24}{1e3 * seconds / len(curves):10.3f} ms per light curve {len(curves) / seconds:10.1f} per second"
        )
    begin = time.perf_counter()
    with timed_phases(device) as spent:
        found = search()
    total = time.perf_counter() - begin
    spent["the rest, on the host"] = total - sum(spent.values())
    figures["phases_ms_per_light_curve"] = {name: 1e3 * value / len(curves) for name, value in spent.items()}
    figures["signals"] = sum(map(len, found))
    for name, value in spent.items():
        print(f"  {name:24}{1e3 * value / len(curves):8.3f} ms per light curve")
    return figures


def equality(options: argparse.Namespace, machine: Engine) -> dict[str, Any]:
    """Of the device and the CPU, on the same light curves: periodograms, and the figures of every signal."""
    curves = light_curves(options.equal, seed=1)
    plan, cpu = plan_of(curves), Engine(torch.device("cpu"), BUDGET["cpu"])
    spectra = [star_batch.signal_to_noise(one, plan, curves)[0] for one in (machine, cpu)]
    found = [star_batch.search(one, plan, curves, Limits()) for one in (machine, cpu)]
    pairs = [(a, b) for ours, theirs in zip(*found, strict=True) for a, b in zip(ours, theirs, strict=False)]
    same = [len(ours) == len(theirs) for ours, theirs in zip(*found, strict=True)]
    largest = {
        name: max((abs(getattr(a.measured, name) / getattr(b.measured, name) - 1) for a, b in pairs), default=0.0)
        for name in ("period", "duration", "depth", "snr")
    }
    sigmas = max((abs(a.measured.period - b.measured.period) / b.measured.period_error for a, b in pairs), default=0.0)
    figures = {
        "light_curves": len(curves),
        "signals": len(pairs),
        "same_number_of_signals": sum(same),
        "largest_difference_of_snr_at_a_period": float(np.abs(spectra[0] - spectra[1]).max()),
        "largest_relative_difference": {name: float(value) for name, value in largest.items()},
        "largest_difference_of_periods_in_errors": float(sigmas),
        "flags_equal": all(a.flags == b.flags for a, b in pairs),
    }
    figures["equal"] = all(same) and figures["largest_difference_of_snr_at_a_period"] < 0.01 and sigmas < 0.1
    print(f"\nagainst the CPU: {json.dumps(figures, indent=1)}")
    return figures


def against_peers(options: argparse.Namespace, curves: list[Curve], ours: dict[str, Any]) -> dict[str, float]:
    from search_recall import points

    found = {}
    when, flux = points(curves[0])
    for name, package in (("TLS", "transitleastsquares"), ("BLS", "astropy")):
        if importlib.util.find_spec(package) is None:
            print(f"{package} is not installed, so left out")
            continue

        def run(name: str = name) -> None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if name == "TLS":
                    from transitleastsquares import transitleastsquares

                    model = transitleastsquares(when, flux, np.full(len(when), curves[0].sigma), verbose=False)
                    model.power(show_progress_bar=False, verbose=False, use_threads=options.threads)
                else:
                    from astropy.timeseries import BoxLeastSquares

                    durations = 0.04 * 1.35 ** np.arange(6)
                    BoxLeastSquares(when, flux, curves[0].sigma).power(plan_of(curves).periods, durations)

        seconds, processor = best_of(run, options.rounds, torch.device("cpu"))
        ratio, of_processor = seconds * ours["search_per_second"], 1e3 * processor / ours["search_processor_ms"]
        found |= {f"{name}_seconds": seconds, f"{name}_processor_ms": 1e3 * processor}
        found |= {f"{name}_over_search": ratio, f"{name}_over_search_processor": of_processor}
        print(f"{name:24}{1e3 * seconds:10.1f} ms per light curve: {ratio:.1f} x the search")
        print(f"{'':24}{1e3 * processor:10.1f} ms of processor time: {of_processor:.1f} x the search's")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda", "mps"))
    parser.add_argument("--batch", type=int, default=0, help="light curves; 64 on a CPU, 1,024 on a GPU")
    parser.add_argument("--equal", type=int, default=64, help="light curves that are searched on the CPU too")
    parser.add_argument("--files", type=int, default=0, help="FITS files; 64 on a CPU, 1,024 on a GPU")
    parser.add_argument("--workers", type=int, default=0, help="processes that read")
    parser.add_argument("--threads", type=int, default=0, help="of torch and TLS on the CPU; 0 for one per core")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = torch.device(options.device)
    options.threads = options.threads or usable_cores()
    torch.set_num_threads(options.threads)
    options.batch = options.batch or (64 if device.type == "cpu" else 1024)
    options.files = options.files or (64 if device.type == "cpu" else 1024)
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or platform.machine()
    figures: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "device": name,
        "cores": os.cpu_count(),
        "threads": options.threads,
        "load": os.getloadavg(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    print(json.dumps(figures))
    machine = Engine(device, BUDGET[device.type])
    parts: dict[str, Callable[[], dict[str, Any]]] = {"memory": lambda: in_memory(options, machine, device)}
    if device.type != "cpu":
        parts["equality"] = lambda: equality(options, machine)
    else:
        parts["peers"] = lambda: against_peers(options, light_curves(2), figures["memory"])
    if importlib.util.find_spec("astropy"):
        parts["files"] = lambda: from_files(options, device)
    for part, work in parts.items():
        try:
            figures[part] = work()
        except Exception:  # noqa: BLE001 - the other parts are measured all the same
            figures[part] = {"failed": traceback.format_exc()}
            print(figures[part]["failed"])
        if options.json:
            options.json.write_text(json.dumps(figures, indent=1))
    if "command_seconds" in figures.get("files", {}):
        files, device_rate = figures["files"], figures["memory"]["search_per_second"]
        rate = min(files["read_and_detrended_per_second"], device_rate)
        model = SECTOR * (files["headers_ms"] / 1e3 + 1 / rate) + files["files"] / rate
        figures["sector_model_minutes"] = model / 60
        figures["sector_from_command_minutes"] = SECTOR / files["command_per_second"] / 60
        print(f"\na sector of {SECTOR:,} stars: {model / 60:.1f} minutes by the model (headers, then the slower of ")
        print(f"reading and searching); {figures['sector_from_command_minutes']:.1f} at the whole command's rate here")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
