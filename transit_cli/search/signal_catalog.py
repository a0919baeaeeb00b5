"""The catalog that a search writes: one row per signal, in the columns that `transit data prepare` reads."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli.data.lightcurves.time_reference import name_of
from transit_cli.parsing import csv_text

if TYPE_CHECKING:
    from transit_cli.search.source import Light
    from transit_cli.search.star_batch import Found

#: Columns of the catalog, in order.
COLUMNS = (
    "star",
    "signal",
    "mission",
    "period_days",
    "period_error_days",
    "epoch_days",
    "epoch_error_days",
    "time_system",
    "duration_hours",
    "duration_error_hours",
    "depth_ppm",
    "depth_error_ppm",
    "snr",
    "sde",
    "transits",
    "odd_depth_ppm",
    "even_depth_ppm",
    "odd_even_sigma",
    "single",
    "flags",
    "segment",
    "source",
    "note",
)
#: Signals of two stars are shared if their periods differ by less than this share, and their transits overlap.
SAME_PERIOD = 2e-3
#: Single transits at the same time are shared from this many stars on: a few coincide by chance.
SAME_TIME = 3


def rows_of(light: Light, signals: Sequence[Found]) -> list[dict[str, Any]]:
    """The rows of one star, in JSON types; figures that are not known are None."""
    rows = []
    for number, found in enumerate(signals, 1):
        signal = found.measured
        odd, even, difference = signal.odd_even()
        rows.append(
            {
                "star": light.star,
                "signal": str(number),
                "mission": light.mission,
                "period_days": _digits(signal.period, 10),
                "period_error_days": _digits(signal.period_error, 3),
                "epoch_days": _digits(signal.epoch, 11),
                "epoch_error_days": _digits(signal.epoch_error, 3),
                "time_system": name_of(light.reference_jd),
                "duration_hours": _digits(24 * signal.duration, 5),
                "duration_error_hours": _digits(24 * signal.duration_error, 3),
                "depth_ppm": _digits(1e6 * signal.depth, 6),
                "depth_error_ppm": _digits(1e6 * signal.depth_error, 3),
                "snr": _digits(signal.snr, 5),
                "sde": _digits(found.sde, 5),
                "transits": len(signal.cycles),
                "odd_depth_ppm": _digits(1e6 * odd, 6),
                "even_depth_ppm": _digits(1e6 * even, 6),
                "odd_even_sigma": _digits(difference, 3),
                "single": int(signal.single),
                "flags": "; ".join(found.flags),
                "segment": light.segment,
                "source": light.source,
                "note": "; ".join(light.notes),
            }
        )
    return rows


def _digits(value: float, digits: int) -> float | None:
    return float(f"{value:.{digits}g}") if np.isfinite(value) else None


def figures_of(row: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """Of a row: period (0 for a single transit), epoch, duration in days, and the Julian Date of time 0 or a part."""
    period = 0.0 if row["single"] else row["period_days"]
    return period, row["epoch_days"], row["duration_hours"] / 24, row["snr"]


def shared(figures: np.ndarray, stars: np.ndarray) -> np.ndarray:
    """How many other stars show each signal at the same period and phase.

    Transits of one star do not repeat on another; what does is the light of a neighbour, or the instrument.

    Args:
        figures: [n, 4] from `figures_of`.
        stars: [n] a number per star.

    Returns:
        [n] numbers of stars.
    """
    others = np.zeros(len(figures), dtype=np.int64)
    for single in (False, True):
        chosen = np.flatnonzero((figures[:, 0] == 0) == single)
        key = figures[chosen, 1 if single else 0]
        order = chosen[np.argsort(key, kind="stable")]
        key = np.sort(key, kind="stable")
        for place, row in enumerate(order):
            period, epoch, duration, _ = figures[row]
            reach = duration if single else SAME_PERIOD * period
            near = order[np.searchsorted(key, key[place] - reach) : np.searchsorted(key, key[place] + reach, "right")]
            near = near[stars[near] != stars[row]]
            apart = figures[near, 1] - epoch
            if not single:
                apart -= np.rint(apart / period) * period
            same = np.abs(apart) < 0.25 * (duration + figures[near, 2])
            others[row] = len(np.unique(stars[near[same]]))
        if single:
            others[chosen[others[chosen] < SAME_TIME]] = 0
    return others


def _cell(value: Any) -> Any:
    return "" if value is None else csv_text.quoted(value) if isinstance(value, str) else value


def text(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as lines of CSV, without a header; None is empty."""
    return lines([row[name] for name in COLUMNS] for row in rows)


def lines(rows: Iterable[Iterable[Any]]) -> str:
    """Cells as lines of CSV; None is empty."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(map(_cell, row) for row in rows)
    return out.getvalue()
