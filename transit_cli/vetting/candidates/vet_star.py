"""All signals of one star, vetted: the task of a worker process.

What it returns depends only on its argument and the files, and consists of JSON types.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli.data.lightcurves.time_reference import name_of
from transit_cli.data.starlight import ephemeris_check
from transit_cli.data.starlight.properties import ExtraColumns, StarProperties
from transit_cli.data.starlight.star_light import StarLight, light_of, read_star
from transit_cli.data.views.detrend import in_transit
from transit_cli.data.views.ephemeris import epoch_in, signal_or_none
from transit_cli.data.views.folding import Signal, UnusableError, phases
from transit_cli.data.views.star import Task, prepare_star
from transit_cli.utils import machine_errors
from transit_cli.vetting.candidate_tests.candidate import Candidate
from transit_cli.vetting.candidate_tests.stellar import EARTH_RADII, scaled_distance
from transit_cli.vetting.candidate_tests.transit_fit import fit_transit
from transit_cli.vetting.candidates.disposition import decide, run_tests
from transit_cli.vetting.candidates.star_table import merged

if TYPE_CHECKING:
    from pathlib import Path

    from transit_cli.data.catalogs.catalog import Tce
    from transit_cli.data.lightcurves.lightcurve import LightCurve

#: Ratio of the fitted to the catalog's duration beyond which the user is warned.
DURATION_RATIO = 2.0


@dataclass(frozen=True)
class VetTask:
    """A star to vet.

    Attributes:
        views: the star's signals and files, as for `transit data prepare`.
        stars: properties of the star, one per signal, from the catalog.
        pictures: draw the sheet.
        panels: also return the plots as data, for a PDF.
    """

    views: Task
    stars: tuple[StarProperties, ...]
    pictures: bool = True
    panels: bool = False

    @property
    def star(self) -> str:
        """The star's name."""
        return self.views.star


def vet_star(task: VetTask) -> dict[str, Any]:
    """Vet all signals of a star. Nothing that its files hold makes it fail: a signal without a verdict has a reason.

    Returns:
        "signals": one row per signal; "pictures", "thumbnails", "panels": its plots as HTML, the same in small, and as
        data; by the signal's row in the catalog "views", the network's inputs, "columns", its row of a view set, and
        "view_reasons", why it has no views.
    """
    done: dict[str, Any] = {"signals": [], "pictures": [], "thumbnails": [], "panels": []}
    try:
        done |= _views(task.views)
    except Exception as error:  # noqa: BLE001 - one bad star must not end the run
        machine_errors.raise_if_machine(error)
        done |= {"views": {}, "columns": {}, "view_reasons": {"": f"{type(error).__name__}: {error}"}}
    for place, (number, tce) in enumerate(task.views.tces):
        begin = time.process_time()
        row, picture, small, panels = _guarded(task, number, tce, task.stars[place])
        row["seconds"] = round(time.process_time() - begin, 4)
        done["signals"].append(row)
        done["pictures"].append(picture)
        done["thumbnails"].append(small)
        done["panels"].append(panels)
    _LIGHT.clear()
    return done


def _views(task: Task) -> dict[str, Any]:
    """Views and columns of the signals, by catalog row, and the reasons of those that have none."""
    prepared = prepare_star(task)
    views = {
        str(row["catalog_row"]): {name: values[place].tolist() for name, values in prepared.views.items()}
        for place, row in enumerate(prepared.rows)
    }
    columns = {str(row["catalog_row"]): row for row in prepared.rows}
    return {
        "views": views,
        "columns": columns,
        "view_reasons": {str(row["catalog_row"]): row["reason"] for row in prepared.dropped},
    }


def _guarded(task: VetTask, number: int, tce: Tce, star: StarProperties) -> tuple[dict[str, Any], str, str, list[Any]]:
    row = _identity(number, tce)
    try:
        return _vet(task, number, tce, star, row)
    except UnusableError as reason:
        return row | {"reasons": [str(reason)]}, "", "", []
    except Exception as error:  # noqa: BLE001 - one bad signal must not end the run
        machine_errors.raise_if_machine(error)
        return row | {"reasons": [f"it cannot be vetted: {type(error).__name__}: {error}"[:300]]}, "", "", []


def _identity(number: int, tce: Tce) -> dict[str, Any]:
    """The part of a row that the catalog gives; the disposition is "no verdict"."""
    return {
        "star": tce.star,
        "signal": tce.signal,
        "mission": tce.mission,
        "catalog_row": number,
        "label": tce.label,
        "catalog": {
            "period_days": tce.period,
            "epoch_days": tce.epoch,
            "time_system": name_of(tce.reference_jd),
            "duration_hours": 24 * tce.duration,
            "depth_ppm": tce.depth_ppm,
        },
        "disposition": "",
        "reasons": [],
        "warnings": [],
        "tests": [],
        "measured": {},
        "star_properties": {},
    }


#: The light of the star that is being vetted, by its files: signals of a star share it.
_LIGHT: dict[tuple[Path, ...], tuple[LightCurve, StarLight | None, str]] = {}


def _light(task: VetTask, files: tuple[Path, ...], tces: Sequence[Tce]) -> tuple[LightCurve, StarLight]:
    if files not in _LIGHT:
        curve, curves, notes = read_star(files, task.views.column)
        signals = [signal for tce in tces if (signal := signal_or_none(tce, curve))]
        try:
            _LIGHT[files] = curve, light_of(curve, curves, signals, notes), ""
        except UnusableError as reason:
            _LIGHT[files] = curve, None, str(reason)
    curve, light, reason = _LIGHT[files]
    if light is None:
        raise UnusableError(reason)
    return curve, light


def _vet(
    task: VetTask, number: int, tce: Tce, star: StarProperties, row: dict[str, Any]
) -> tuple[dict[str, Any], str, str, list[Any]]:
    if tce.problem:
        raise UnusableError(tce.problem)
    Signal(tce.period, tce.epoch, tce.duration).check()
    files = task.views.named.get(number, task.views.files)
    tces = [other for _, other in task.views.tces]
    curve, light = _light(task, files, tces)
    row["notes"] = list(light.notes)
    row["source"] = curve.source
    row["segments"] = list(light.segment_names)
    epoch, doubt = epoch_in(curve, tce.epoch, tce.reference_jd)
    row["warnings"] += [doubt] if doubt else []
    catalog = Signal(tce.period, epoch, tce.duration)
    usable, blended = _unblended(light, catalog, tce, tces)
    row["warnings"] += [blended] if blended else []
    checked = ephemeris_check.check(light, catalog, usable)
    row["warnings"] += checked.warnings
    row["measured"] = {"snr": checked.snr, "transits": checked.transits}
    if error := _drift(tce, catalog, light):
        row["warnings"].append(error)
    if checked.problem:
        return row | {"reasons": [checked.problem]}, "", "", []
    candidate = _candidate(light, catalog, usable, merged(star, light.star))
    if candidate is None:
        return row | {"reasons": ["no transit shape can be fitted at this ephemeris"]}, "", "", []
    offset = _offset(candidate, catalog)
    ratio = candidate.fit.duration / catalog.duration
    if not 1 / DURATION_RATIO < ratio < DURATION_RATIO:
        row["warnings"].append(
            f"the dip lasts {24 * candidate.fit.duration:.2f} h, the catalog says {24 * catalog.duration:.2f} h"
        )
    outcomes, found = run_tests(candidate)
    decided = decide(outcomes, candidate.fit.snr)
    reasons, code = list(decided.reasons), decided.code
    if abs(offset) > 0.5 * catalog.duration:
        code = ""
        reasons = [
            (
                f"the dip lies {24 * offset:+.2f} h from the catalog's transit, more than half a duration: "
                "check epoch and period"
            )
        ]
    row |= {
        "disposition": code,
        "reasons": reasons,
        "tests": [outcome.document() for outcome in outcomes],
        "measured": row["measured"] | _measured(candidate, light, offset),
        "star_properties": vars(candidate.star),
    }
    if not task.pictures:
        return row, "", "", []
    from transit_cli.vetting.sheets.drawing import draw

    begin = time.process_time()
    picture, small, panels = draw(light, candidate, found, panels=task.panels)
    row["drawing_seconds"] = round(time.process_time() - begin, 4)
    return row, picture, small, panels


def _drift(tce: Tce, catalog: Signal, light: StarLight) -> str:
    """A warning if the catalog's errors move the transits by more than half a duration."""
    cycles = abs(float(np.median(light.time)) - catalog.epoch) / catalog.period
    error = float(np.hypot(np.nan_to_num(tce.epoch_error), cycles * np.nan_to_num(tce.period_error)))
    if error > catalog.duration / 2:
        return f"by the catalog's own errors the transits are uncertain by {24 * error:.1f} h at the data"
    return ""


def _unblended(light: StarLight, signal: Signal, tce: Tce, tces: Sequence[Tce]) -> tuple[np.ndarray, str]:
    """Cells that are not in transits of the star's other signals, and a warning where that is impossible.

    A signal at the same period, or at a simple multiple, may be the same one or its secondary eclipse: it stays.
    """
    usable = np.ones(len(light.time), bool)
    inside = np.abs(phases(light.time, signal)[0]) < signal.duration / 2
    for other in tces:
        neighbour = signal_or_none(other, light.curve)
        if other is tce or neighbour is None or _related(other.period, tce.period):
            continue
        masked = in_transit(light.time, [neighbour], 1.1)
        if (masked & inside).sum() > 0.5 * inside.sum():
            return usable, f"its transits coincide with those of signal {other.signal}"
        usable &= ~masked
    return usable, ""


def _related(one: float, other: float) -> bool:
    ratio = max(one, other) / min(one, other)
    return abs(ratio - round(ratio)) < 2e-3 * ratio and round(ratio) <= 3


def _candidate(light: StarLight, signal: Signal, usable: np.ndarray, star: StarProperties) -> Candidate | None:
    outside = usable & (np.abs(phases(light.time, signal)[0]) > 0.75 * signal.duration)
    sigma, red = light.noise(outside, signal.duration)
    arrays = light.time[usable], light.flux[usable], light.weight[usable]
    fit = fit_transit(*arrays, signal, sigma=sigma, red=red, cell=light.cell)
    if fit is None:
        return None
    return Candidate(
        time=arrays[0],
        flux=arrays[1],
        raw=light.raw[usable],
        weight=arrays[2],
        cell=light.cell,
        sigma=sigma,
        red=red,
        signal=Signal(fit.period, fit.epoch, fit.duration),
        fit=fit,
        star=star,
        extra=_chosen(light.extra, usable),
        segments=light.segments[usable],
        segment_names=light.segment_names,
    )


def _chosen(extra: ExtraColumns, usable: np.ndarray) -> ExtraColumns:
    centroids = None if extra.centroids is None else extra.centroids[:, usable]
    apertures = {name: values[usable] for name, values in extra.apertures.items()}
    return ExtraColumns(centroids, extra.centroid_reason, extra.pixel, apertures, extra.aperture_reason)


def _offset(candidate: Candidate, catalog: Signal) -> float:
    """Days from the catalog's transit nearest to the middle of the data to the fitted one."""
    since = candidate.fit.epoch - catalog.epoch
    return float(since - np.rint(since / catalog.period) * catalog.period)


def _measured(candidate: Candidate, light: StarLight, offset: float) -> dict[str, float | str]:
    """Values and errors of the fit, in the units of the TOI table; NaN where unknown."""
    fit, star = candidate.fit, candidate.star
    reference = light.curve.reference_jd
    found: dict[str, float | str] = {
        "period_days": fit.period,
        "period_error_days": fit.period_error,
        "epoch_days": fit.epoch,
        "epoch_bjd": fit.epoch + reference if reference is not None else np.nan,
        "epoch_error_days": fit.epoch_error,
        "time_system": name_of(reference),
        "duration_hours": 24 * fit.duration,
        "duration_error_hours": 24 * fit.duration_error,
        "depth_ppm": 1e6 * fit.depth,
        "depth_error_ppm": 1e6 * fit.depth_error,
        "snr": fit.snr,
        "radius_ratio": fit.radius_ratio,
        "radius_ratio_error": fit.radius_ratio_error,
        "impact": fit.impact,
        "impact_error": fit.impact_error,
        "transits": len(candidate.transits.cycles),
        "epoch_offset_hours": 24 * offset,
        "noise_ppm_per_duration": 1e6 * candidate.sigma * candidate.red * np.sqrt(light.cell / fit.duration),
        "red_noise": candidate.red,
    }
    if np.isfinite(star.radius):
        radius = fit.radius_ratio * star.radius * EARTH_RADII
        spread = np.hypot(fit.radius_ratio_error / fit.radius_ratio, np.nan_to_num(star.radius_error) / star.radius)
        found |= {"radius_earth": radius, "radius_error_earth": radius * spread}
    if np.isfinite(star.density) and np.isfinite(star.teff):
        distance = scaled_distance(fit.period, star.density)
        temperature = star.teff * np.sqrt(0.5 / distance)  # albedo 0, heat spread over the planet
        found |= {
            "a_over_rstar": distance,
            "equilibrium_temperature_k": temperature,
            "insolation_earth": (temperature / 278.3) ** 4,
        }
    return found
