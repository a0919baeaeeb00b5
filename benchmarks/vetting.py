"""How often each test of `transit vet` fails simulated planets and false positives, and what a run takes.

    python benchmarks/vetting.py FOLDER [--each 100] [--seed 0] [--mission tess] [--sheets 0]

Light curves of each kind are simulated (`transit_cli.data.simulation`), written as files with three apertures and
centroids, and vetted by the command; FOLDER keeps them. Kinds: a planet; an eclipsing binary, on the target and at the
period that a search reports (often half); a background eclipsing binary (the same, diluted by a star of its own light,
2 to 4 pixels off, with more of its light in larger apertures); rotation (a variable star found at its period or a
multiple); and an instrument's systematics (edge ramps, momentum dumps) at the deepest box of a search.

S/N is log-uniform from 8 to 200 over the white noise. Stars have no radius or gravity: the tests that need them are not
made. Everything is simulated: rates on real light curves differ.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import time
from collections import Counter
from pathlib import Path

import numpy as np
from astropy.io import fits

from transit_cli.data.simulation import instrument, systems
from transit_cli.data.simulation.box_search import deepest_box
from transit_cli.data.views.detrend import flatten, in_transit
from transit_cli.data.views.folding import Signal
from transit_cli.vetting.candidates.candidate_table import TESTS
from transit_cli.vetting.candidates.vet_run import vet
from transit_cli.vetting.settings import VetSettings

KINDS = ("planet", "binary", "background binary", "rotation", "systematics")
LOWEST, HIGHEST = 8.0, 200.0


def noise(rng: np.random.Generator, observation: instrument.Observation) -> np.ndarray:
    """White noise of unit variance with some red noise."""
    count = len(observation.grid)
    total = rng.standard_normal(count)
    total += rng.exponential(0.35) * instrument.red_noise(rng, count, observation.cadence)
    return total[observation.has_data]


def reported(rng: np.random.Generator, true: Signal, span: float) -> Signal:
    """The ephemeris with the errors of a search: a few per cent of a duration, 10 % of the duration."""
    drift = rng.normal(0, 0.05) * true.duration * true.period / span
    duration = min(true.duration * float(np.exp(rng.normal(0, 0.1))), 0.6 * true.period)
    return Signal(true.period + drift, true.epoch + rng.normal(0, 0.025) * true.duration, max(duration, 0.5 / 24))


def searched(time: np.ndarray, flux: np.ndarray, period: float, spacing: float) -> Signal:
    """The deepest box near a period after detrending."""
    flat = flatten(time, flux, spacings=(spacing,))
    signal, _ = deepest_box(flat.time, flat.flux, period * (1 + 0.002 * np.linspace(-2, 2, 9)))
    return Signal(signal.period, signal.epoch, float(np.clip(signal.duration, 0.5 / 24, 0.25 * signal.period)))


def one(  # noqa: C901 - one branch per kind
    rng: np.random.Generator, kind: str, mission: str
) -> dict[str, np.ndarray | Signal] | None:
    """A light curve of a kind, with its signal; None if it is not detectable."""
    observation = instrument.observe_tess(rng) if mission == "tess" else instrument.observe_kepler(rng)
    when = observation.time
    span = float(when[-1] - when[0])
    snr = float(np.exp(rng.uniform(np.log(LOWEST), np.log(HIGHEST))))
    longest = min(0.45 * span, 30.0)
    offset, dilution = np.zeros(2), 1.0
    if kind in {"planet", "binary", "background binary"}:
        make = systems.planet if kind == "planet" else systems.binary
        system = make(rng, when, observation.cadence, longest)
        if kind == "background binary":
            dilution = float(np.exp(rng.uniform(np.log(0.01), np.log(0.1))))
            angle = rng.uniform(0, 2 * np.pi)
            offset = rng.uniform(2, 4) * np.array([np.cos(angle), np.sin(angle)])
        dip = system.flux * dilution
        inside = int(in_transit(when, (system.signal,), 1.0).sum())
        depth = system.depth * dilution
        sigma = depth * np.sqrt(inside) / snr
        if inside < 6 or depth < 1e-4 or not 3e-5 < sigma < 0.02:
            return None
        signal = reported(rng, system.signal, span)
        flux = 1 + dip + sigma * noise(rng, observation)
        if rng.random() < 0.3:
            flux += min(sigma, 0.3 * depth) * rng.random() * systems.variability(rng, when)[0]
    else:
        sigma = 10 ** rng.uniform(-3.6, -2.6)
        if kind == "rotation":
            shape, period = systems.variability(rng, when)
            if not 0.3 < period < longest:
                return None
            wrong = float(np.exp(rng.normal(np.log(1.6), 1.0))) * shape
        else:
            period = float(rng.uniform(0.5, longest))
            choices = (instrument.edge_ramps, instrument.momentum_dump_offsets, instrument.outlier_bursts)
            wrong = 4 * rng.choice(choices)(rng, observation)[observation.has_data]
        dip = sigma * wrong
        flux = 1 + dip + sigma * noise(rng, observation)
        signal = searched(when, flux, period, 1.0)
        inside = in_transit(when, (signal,), 1.0)
        flat = flatten(when, flux, spacings=(1.0,))
        low = np.median(flat.flux) - flat.flux[in_transit(flat.time, (signal,), 1.0)].mean()
        if low / sigma * np.sqrt(inside.sum()) < LOWEST:
            return None
    apertures = {"": 1.0, "_SML": 1.0, "_LAG": 1.0}
    if kind == "background binary":
        apertures = {"": 1.0, "_SML": float(rng.uniform(0.3, 0.8)), "_LAG": float(rng.uniform(1.2, 2.5))}
    motion = 2e-3 * np.stack([noise(rng, observation), noise(rng, observation)])
    columns = {"TIME": when, "SYS_RM_FLUX": flux}
    for name, factor in apertures.items():
        columns[f"DET_FLUX{name}"] = flux + (factor - 1) * dip + 0.3 * sigma * rng.standard_normal(len(when))
    for axis in (0, 1):
        # The centroid is the mean place of the light: a source that fades by `dip` pulls it the other way.
        columns[f"MOM_CENTR{axis + 1}"] = 100 + offset[axis] * dip / (1 + dip) + 0.3 * motion[axis]
    return {"columns": columns, "signal": signal}


def simulate(folder: Path, each: int, seed: int, mission: str) -> Path:
    """Write the light curves and the catalog; the catalog's path."""
    rows = []
    for number, kind in enumerate(KINDS):
        rng = np.random.default_rng([seed, number])
        done = 0
        while done < each:
            made = one(rng, kind, mission)
            if made is None:
                continue
            star = 10_000_000 + 100_000 * number + done
            columns = made["columns"]
            table = fits.BinTableHDU.from_columns(
                [
                    fits.Column(name, "D", array=values, unit="BJD - 2457000, days" if name == "TIME" else None)
                    for name, values in columns.items()
                ]
            )
            head = fits.PrimaryHDU()
            head.header.update({"TELESCOP": "TESS", "ORIGIN": "QLP/MIT", "TICID": star, "SECTOR": 1})
            fits.HDUList([head, table]).writeto(folder / "light" / f"sim{star}.fits")
            signal = made["signal"]
            rows.append((f"TIC {star}", kind, signal.period, signal.epoch, "BTJD", 24 * signal.duration))
            done += 1
    catalog = folder / "catalog.csv"
    with catalog.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("star", "signal", "period_days", "epoch_days", "time_system", "duration_hours"))
        writer.writerows(rows)
    return catalog


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--each", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mission", choices=("tess", "kepler"), default="tess")
    parser.add_argument("--sheets", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    chosen = parser.parse_args()
    catalog = chosen.folder / "catalog.csv"
    if not catalog.exists():
        (chosen.folder / "light").mkdir(parents=True)
        simulate(chosen.folder, chosen.each, chosen.seed, chosen.mission)
    begin = time.perf_counter()
    vet(
        VetSettings(
            catalog=catalog,
            light_curves=chosen.folder / "light",
            out=chosen.folder / "vetted",
            max_sheets=chosen.sheets,
            workers=chosen.workers,
            device="cpu",
            overwrite=True,
        )
    )
    wall = time.perf_counter() - begin
    rows = [json.loads(line) for line in (chosen.folder / "vetted" / "signals.jsonl").open()]
    print(table(rows))
    seconds = [row["seconds"] for row in rows if row.get("seconds")]
    drawing = [row["drawing_seconds"] for row in rows if row.get("drawing_seconds")]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\n{len(rows)} signals, {wall:.1f} s, {np.mean(seconds):.3f} s of CPU per signal; peak {peak:.0f} MiB")
    if drawing:
        size = (chosen.folder / "vetted" / "vetting.html").stat().st_size / 1e6
        print(f"drawing: mean {np.mean(drawing):.3f} s, most {max(drawing):.3f} s of CPU per sheet; page {size:.1f} MB")
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def table(rows: list[dict]) -> str:
    """Markdown: shares of failed signals by kind and test, and dispositions."""
    kinds = {kind: [row for row in rows if row["signal"] == kind] for kind in KINDS}
    lines = [f"| | {' | '.join(f'{kind} ({len(found)})' for kind, found in kinds.items())} |", "|---|" + "---|" * 5]
    for code, name in (("PC", "planet candidate"), ("FP", "false positive"), ("FA", "false alarm"), ("", "no verdict")):
        counts = [Counter(row["disposition"] for row in found)[code] for found in kinds.values()]
        lines.append(f"| **{name}** | {' | '.join(map(str, counts))} |")
    for test in TESTS:
        counts = []
        for found in kinds.values():
            verdicts = Counter(item["verdict"] for row in found for item in row["tests"] if item["name"] == test)
            made = sum(verdicts.values()) - verdicts["not made"]
            counts.append(f"{verdicts['fail']} of {made}" if made else "-")
        lines.append(f"| {test} fails | {' | '.join(counts)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
