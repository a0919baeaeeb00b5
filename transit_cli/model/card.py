"""The card of saved networks: what they are, take and return."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from transit_cli.config import Range
from transit_cli.options import MAX_BINS, MAX_MEMBERS
from transit_cli.parsing.schema import NotEmpty

#: Version 1 had no checksum.
VERSION = 2


@dataclass(frozen=True)
class ScalarCard:
    """How a scalar input is made: see `training.loading.scaling.Scaling`."""

    column: str
    log: bool
    center: float
    scale: Annotated[float, Range(0, open="left")]


@dataclass(frozen=True)
class Card:
    """Description of saved networks, in the types of JSON that `saved` reads and writes.

    Attributes:
        network: name for `registry.build`; "FILE.py:FUNCTION" for a network of the user's, with a file beside the card.
        views: length in bins of each view, in the order of the inputs.
        target: the labels that count as positive.
        scalars: how each scalar is made from its column.
        members: number of networks.
        folds: the fold that was held out from each member; empty without folds.
        trained_on: description of the training set.
        simulated: whether the training set was simulated.
        figures: metrics on the validation rows, by name.
        transit: version of transit that wrote it.
        version: version of the file's layout.
    """

    network: Annotated[str, NotEmpty()]
    views: Annotated[dict[str, Annotated[int, Range(1, MAX_BINS)]], NotEmpty()]
    target: Annotated[tuple[str, ...], NotEmpty()]
    scalars: tuple[ScalarCard, ...] = ()
    members: Annotated[int, Range(1, MAX_MEMBERS)] = 1
    folds: tuple[Annotated[int, Range(0, MAX_MEMBERS)], ...] = ()
    trained_on: str = ""
    simulated: bool = False
    figures: dict[str, Any] = field(default_factory=dict)
    transit: str = ""
    version: Annotated[int, Range(1, VERSION)] = VERSION

    def __post_init__(self) -> None:
        """Raise ValueError if the folds are not those of the members."""
        if self.folds and len(self.folds) != self.members:
            raise ValueError(f"folds of {len(self.folds)} members, not {self.members}")
