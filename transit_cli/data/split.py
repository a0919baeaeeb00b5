"""Training, validation and test parts by star: a hash of the star's name decides.

Every TCE of a star is in the same part, on every machine, and a growing set keeps its parts. The AstroNet and Yu et al.
(2019) sets were split by TCE: some stars of their test parts are in their training parts.
"""

from __future__ import annotations

import hashlib
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SPLITS = ("train", "val", "test")

#: Fractions of the stars in each of `SPLITS`, as in Shallue & Vanderburg (2018).
FRACTIONS = (0.8, 0.1, 0.1)


def split_of(star: str, fractions: Sequence[float] = FRACTIONS) -> str:
    """The part a star belongs to: "train", "val" or "test".

    Args:
        star: its name as `star_name` gives it.
        fractions: of the stars in train, val and test; they add up to 1.
    """
    digest = hashlib.sha256(star.encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    return next((part for part, end in zip(SPLITS, accumulate(fractions), strict=True) if place < end), SPLITS[-1])


def split(stars: Iterable[str], fractions: Sequence[float] = FRACTIONS) -> np.ndarray:
    """`split_of` for many stars, as an array of text."""
    return np.array([split_of(star, fractions) for star in stars], dtype="U5")
