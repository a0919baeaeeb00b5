"""Columns of a view set's table as numbers that a network can take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from transit_cli.results import TransitError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from transit_cli.data.viewset import ViewSet


@dataclass(frozen=True)
class Scaling:
    """How one column of the table becomes a number near 0: (log10 or itself - center) / scale, within +-5.

    A missing value becomes 0, the middle of what was trained on.
    """

    column: str
    log: bool
    center: float
    scale: float

    @classmethod
    def measure(cls, viewset: ViewSet, column: str, among: np.ndarray) -> Scaling:
        """Median and spread (1.4826 MAD) over the rows that train; logarithms where all values are positive.

        Raises:
            TransitError: the set has no such column of numbers, or it says nothing.
        """
        numbers = {name: values for name, values in viewset.tces.items() if values.dtype.kind == "f"}
        values = numbers[column][among] if column in numbers else np.array([])
        values = values[np.isfinite(values)]
        if len(values) == 0:
            found = "no values" if column in numbers else "no column of numbers"
            raise TransitError(
                f"{viewset.path} has {found} {column!r}",
                wanted=f"--scalars from {', '.join(numbers)}",
                fix="give other --scalars",
                code="scalar-missing",
            )
        log = bool((values > 0).all())
        values = np.log10(values) if log else values
        center = float(np.median(values))
        spread = 1.4826 * float(np.median(np.abs(values - center)))
        return cls(column, log, center, spread or float(values.std()) or 1.0)

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Scaled values, float32, of a column's values."""
        with np.errstate(divide="ignore", invalid="ignore"):
            scaled = ((np.log10(values) if self.log else values) - self.center) / self.scale
        return np.clip(np.nan_to_num(scaled, posinf=5, neginf=-5), -5, 5).astype(np.float32)


def scaled(tces: Mapping[str, np.ndarray], scalings: Sequence[Scaling]) -> np.ndarray:
    """The scalars of a table's rows, [N, S] float32; a column that the table lacks counts as missing values."""
    count = len(next(iter(tces.values())))
    missing = np.full(count, np.nan)
    return np.stack([scaling.apply(tces.get(scaling.column, missing)) for scaling in scalings], axis=1)
