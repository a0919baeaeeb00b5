"""Columns of a view set's table, scaled as inputs of a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from transit_cli.results import TransitError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from transit_cli.data.viewset import ViewSet


#: Quantiles of a column's values that are kept.
KNOTS = 64
_SHARES = (np.arange(KNOTS) + 0.5) / KNOTS


@dataclass(frozen=True)
class Scaling:
    """How a column of the table is scaled.

    By default (x - center) / scale, clipped to +-5, where x is the value or its log10. With knots, the quantiles of the
    training rows become those of the normal distribution, with linear interpolation between them: neither an offset nor
    a few huge values matter. A missing value becomes 0, the median of the training rows.
    """

    column: str
    log: bool
    center: float
    scale: float
    knots: tuple[float, ...] = ()

    @classmethod
    def measure(cls, viewset: ViewSet, column: str, rows: np.ndarray, *, quantiles: bool = False) -> Scaling:
        """Median and 1.4826 MAD over `rows`, which train; of the logarithm if all values are positive.

        With `quantiles`, `KNOTS` quantiles of the values instead.

        Raises:
            TransitError: the set has no such numeric column, or it has no finite values.
        """
        numbers = viewset.tces.numbers
        values = numbers[column][rows] if column in numbers else np.array([])
        values = values[np.isfinite(values)]
        if len(values) == 0:
            found = "no values in column" if column in numbers else "no numeric column"
            raise TransitError(
                f"{viewset.path} has {found} {column!r}",
                wanted=f"--scalars from {', '.join(numbers)}",
                fix="give other --scalars, or --scalars= for none",
                code="scalar-missing",
            )
        if quantiles:
            return cls(column, log=False, center=0.0, scale=1.0, knots=tuple(np.quantile(values, _SHARES).tolist()))
        log = bool((values > 0).all())
        values = np.log10(values) if log else values
        center = float(np.median(values))
        spread = 1.4826 * float(np.median(np.abs(values - center)))
        return cls(column, log, center, spread or float(values.std()) or 1.0)

    def apply(self, values: np.ndarray) -> np.ndarray:
        """A column's values, scaled, as float32."""
        if self.knots:
            return np.nan_to_num(_normal_scores(values, np.array(self.knots))).astype(np.float32)
        with np.errstate(divide="ignore", invalid="ignore"):
            scaled = ((np.log10(values) if self.log else values) - self.center) / self.scale
        return np.clip(np.nan_to_num(scaled, posinf=5, neginf=-5), -5, 5).astype(np.float32)


def _normal_scores(values: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """The normal quantiles of values between the knots; equal knots give the middle of theirs; NaN stays."""
    from scipy.special import ndtri

    known, place, count = np.unique(knots, return_inverse=True, return_counts=True)
    scores = np.bincount(place, ndtri(np.linspace(0, 1, len(knots) + 2)[1:-1])) / count
    return np.where(np.isnan(values), np.nan, np.interp(values, known, scores))


def scaled(tces: Mapping[str, np.ndarray], scalings: Sequence[Scaling]) -> np.ndarray:
    """The scalars of a table's rows, [N, S] float32; a column that the table lacks has only missing values."""
    count = len(tces[next(iter(tces))])
    missing = np.full(count, np.nan)
    return np.stack([scaling.apply(tces.get(scaling.column, missing)) for scaling in scalings], axis=1)
