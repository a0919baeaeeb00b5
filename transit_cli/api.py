"""transit from Python: for notebooks and scripts.

    from transit_cli import api

    curve = api.light_curve(time, flux, star="TIC 100100827", reference_jd=2457000.0)  # or api.read("star.fits")
    found = api.predict(curve, period=0.94145, epoch=1354.4579, duration=2.1)
    found.score, found.probabilities

Functions raise `TransitError`, whose `found`, `wanted` and `fix` say what is wrong and what to do; they print nothing.
`prepare`, `search`, `train` and `evaluate` are the commands of these names: they take options by the names in YAML
files (`transit train --print-config`), write the same files, and return the data of `--json`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli import config
from transit_cli.data.lightcurves.lightcurve import LightCurve, UnreadableError
from transit_cli.results import TransitError, plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "LightCurve",
    "Prediction",
    "TransitError",
    "evaluate",
    "from_lightkurve",
    "light_curve",
    "predict",
    "prepare",
    "read",
    "search",
    "train",
]

#: Julian Dates of time 0 of astropy's and lightkurve's time formats.
_FORMATS = {"bkjd": 2454833.0, "btjd": 2457000.0, "jd": 0.0, "mjd": 2400000.5}


@dataclass(frozen=True)
class Prediction:
    """What a network says of one signal.

    Attributes:
        score: probability of the positive labels, mean of the members.
        spread: its standard deviation over the members; not an uncertainty of the score.
        target: the positive labels.
        probabilities: of each class by its label; of the target alone for a network that tells no classes apart.
        trained_on: what the network was trained on.
        warnings: why the ephemeris may not be that of a signal in the light curve.
        measurements: depth, S/N, number of transits and others, as in tces.csv.
    """

    score: float
    spread: float
    target: tuple[str, ...]
    probabilities: Mapping[str, float]
    trained_on: str
    warnings: Sequence[str] = ()
    measurements: Mapping[str, float] = field(default_factory=dict)


def light_curve(
    time: Any, flux: Any, *, star: str = "", mission: str = "", reference_jd: float | None = 0.0
) -> LightCurve:
    """A light curve from arrays.

    Args:
        time: [n] days since Julian Date `reference_jd`, in any order.
        flux: [n] in any unit; NaN is left out.
        star: its name, as in "TIC 100100827".
        mission: "kepler", "k2", "tess" or "".
        reference_jd: the Julian Date of time 0: 2457000 for BTJD, 2454833 for BKJD, 0 for BJD.

    Raises:
        TransitError: the arrays differ in length, or too few values are finite.
    """
    times, fluxes = np.asarray(time, float).ravel(), np.asarray(flux, float).ravel()
    if len(times) != len(fluxes):
        raise TransitError(
            f"time has {len(times):,} values and flux {len(fluxes):,}",
            wanted="arrays of the same length",
            fix="give one flux per time",
            code="light-curve-unreadable",
        )
    finite = np.isfinite(times) & np.isfinite(fluxes)
    median = float(np.median(fluxes[finite])) if finite.any() else float("nan")
    if finite.sum() < 4 or not median > 0:
        raise TransitError(
            f"{int(finite.sum())} of {len(times):,} fluxes are finite, with a median of {median:g}",
            wanted="at least four, with a positive median: flux, not magnitudes, and not relative to 0",
            fix="add 1 to fluxes that are relative to 0",
            code="light-curve-unreadable",
        )
    order = np.argsort(times[finite], kind="stable")
    return LightCurve(
        times[finite][order],
        fluxes[finite][order] / median,
        star=star,
        mission=mission,
        reference_jd=reference_jd,
        source="arrays",
        cadences=len(times),
        finite=int(finite.sum()),
    )


def from_lightkurve(curve: Any) -> LightCurve:
    """A light curve from one of lightkurve's: its `time`, `flux`, quality flags left as they were applied there.

    Raises:
        TransitError: its time format is not one of BKJD, BTJD, JD and MJD.
    """
    kind = str(curve.time.format).lower()
    if kind not in _FORMATS:
        raise TransitError(
            f"the time format is {kind}",
            wanted=", ".join(_FORMATS),
            fix="set curve.time.format before",
            code="light-curve-unreadable",
        )
    flux = curve.flux
    values = np.ma.filled(np.ma.asarray(getattr(flux, "value", flux), dtype=float), np.nan)
    mission = str(curve.meta.get("MISSION", "")).lower()
    mission = mission if mission in {"kepler", "k2", "tess"} else ""
    prefix = {"kepler": "KIC ", "k2": "EPIC ", "tess": "TIC "}.get(mission, "")
    number = curve.meta.get("TARGETID") or ""
    star = f"{prefix}{number}" if str(number).isdigit() else str(number)
    return light_curve(curve.time.value, values, star=star, mission=mission, reference_jd=_FORMATS[kind])


def read(file: str | Path, *, flux_column: str = "") -> LightCurve:
    """A light curve from a file that `transit data check` understands.

    Raises:
        TransitError: the file is not one.
    """
    from transit_cli.data.lightcurves import readers

    try:
        return readers.read(Path(file), flux_column)
    except UnreadableError as reason:
        raise TransitError(
            f"{file} cannot be read as a light curve: {reason}",
            wanted="a light curve: FITS, or a table with time and flux",
            fix=f"transit data check {file}",
            code="light-curve-unreadable",
        ) from None


def predict(
    curve: LightCurve,
    *,
    period: float,
    epoch: float,
    duration: float,
    run: str | Path | None = None,
    device: str = "auto",
    trust: bool = False,
) -> Prediction:
    """Score one signal of a light curve.

    Args:
        curve: from `light_curve`, `from_lightkurve` or `read`.
        period: in days.
        epoch: mid-time of a transit in days, in the time system of the curve or as BJD.
        duration: in hours.
        run: folder of `transit train`; by default a network that comes with transit.
        device: "mps", "cuda", "cpu" or "auto".
        trust: execute the Python file of the run's own network.

    Raises:
        TransitError: the signal cannot be folded, or the run cannot be used.
    """
    from transit_cli.data.starlight import ephemeris_check, star_light
    from transit_cli.data.views.ephemeris import epoch_in
    from transit_cli.data.views.folding import Signal, UnusableError
    from transit_cli.data.views.make import recipe_for
    from transit_cli.data.views.signal_summary import summarise
    from transit_cli.device.select import select
    from transit_cli.vetting import pretrained
    from transit_cli.vetting.ensemble import open_run

    where = select(device)
    ensemble = open_run(Path(run), where, trust=trust) if run else pretrained.open_named(pretrained.DEFAULT, where)
    views = ensemble.card.views
    recipe = recipe_for(f"{views.get('global', 201)}/{views.get('local', 61)}", secondary=True, odd_even=True)
    doubts: list[str] = []
    try:
        moved, doubt = epoch_in(curve, epoch, 0.0)
        doubts += [doubt] if doubt else []
        signal = Signal(period, moved, duration / 24)
        summary = summarise(curve, signal, recipe)
        doubts += ephemeris_check.doubts(star_light.light_of(curve, {}, [signal]), signal)
    except UnusableError as reason:
        raise TransitError(
            f"the signal cannot be folded: {reason}",
            wanted="a signal with a transit in the data",
            fix="check period (days), epoch (days) and duration (hours)",
            code="signal-unusable",
        ) from None
    ensemble.check({name: len(view) for name, view in summary.views.items()})
    columns = {name: np.array([value]) for name, value in summary.scalars.items() if np.ndim(value) == 0}
    columns |= {"period_days": np.array([period]), "duration_hours": np.array([duration])}
    folded = {name: np.asarray(view, np.float32)[None] for name, view in summary.views.items()}
    members = ensemble.probabilities(folded, columns)[:, 0]  # [M, C]
    scores = ensemble.positive(members)
    labels = ensemble.card.classes or ("other", ",".join(ensemble.target))
    return Prediction(
        float(scores.mean()),
        float(scores.std()),
        ensemble.target,
        {label: float(value) for label, value in zip(labels, members.mean(axis=0), strict=True)},
        ensemble.trained_on,
        doubts,
        {name: float(value[0]) for name, value in columns.items() if value.dtype.kind in "fiu"},
    )


def prepare(catalog: str | Path, light_curves: str | Path, out: str | Path, **options: Any) -> dict[str, Any]:
    """`transit data prepare`: make a view set from a catalog and light curves."""
    from transit_cli.data.prepare import prepare as run
    from transit_cli.data.settings import PrepareSettings

    return _data(run, PrepareSettings, options | {"catalog": catalog, "light_curves": light_curves, "out": out})


def search(light_curves: str | Path, out: str | Path, **options: Any) -> dict[str, Any]:
    """`transit search`: search a file or folder of light curves for transits."""
    from transit_cli.search.search_run import search as run
    from transit_cli.search.settings import SearchSettings

    return _data(run, SearchSettings, options | {"light_curves": light_curves, "out": out})


def train(viewset: str | Path, **options: Any) -> dict[str, Any]:
    """`transit train`: train on a view set; `out` in the answer is the run's folder."""
    from transit_cli.training.settings import TrainSettings
    from transit_cli.training.train import train as run

    return _data(run, TrainSettings, options | {"viewset": viewset})


def evaluate(run: str | Path, viewset: str | Path | None = None, **options: Any) -> dict[str, Any]:
    """`transit evaluate`: metrics of a run on labelled signals, with intervals."""
    from transit_cli.vetting.evaluate import evaluate as evaluate_run
    from transit_cli.vetting.settings import EvaluateSettings

    given = options | {"run": run} | ({"viewset": viewset} if viewset is not None else {})
    return _data(evaluate_run, EvaluateSettings, given)


def _data(run: Any, settings: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """The data of a command's result as JSON types; its warnings become Python's."""
    result = run(config.resolve(settings, options))
    for text in result.warnings:
        warnings.warn(text, stacklevel=3)
    return dict(plain(result.data))
