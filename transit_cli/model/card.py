"""The card of saved networks: what they are, take and return."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from transit_cli.config import Range
from transit_cli.model.calibration import Calibrations
from transit_cli.options import MAX_BINS, MAX_MEMBERS
from transit_cli.parsing.schema import NotEmpty

#: Version 1 had no checksum, version 2 no classes and no calibration.
VERSION = 3
MAX_KNOTS = 10_000


@dataclass(frozen=True)
class ScalarCard:
    """How a scalar input is made from its column: see `training.loading.scaling.Scaling`."""

    column: str
    log: bool
    center: float
    scale: Annotated[float, Range(0, open="left")]
    knots: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Raise ValueError if there are more knots than a network is saved with."""
        if len(self.knots) > MAX_KNOTS:
            raise ValueError(f"{len(self.knots):,} knots, more than {MAX_KNOTS:,}")


@dataclass(frozen=True)
class Card:
    """Description of saved networks, in the types of JSON that `saved` reads and writes.

    Attributes:
        network: name for `registry.build`; "FILE.py:FUNCTION" for a network of the user's, with a file beside the card.
        views: length in bins of each view, in the order of the inputs.
        target: the labels that count as positive.
        classes: the labels that the network tells apart, in the order of its outputs; empty for a binary network.
        scalars: how each scalar is made from its column: see `ScalarCard`.
        members: number of networks.
        folds: the fold that was held out from each member; empty without folds.
        trained_on: description of the training set.
        simulated: whether the training set was simulated.
        calibration: how logits become probabilities: `model.calibration.Calibrations` as JSON; empty without.
        initialised: what the weights began from; "" for random ones.
        unit_depth: the views that are divided by their own depth.
        figures: metrics on the validation rows, by name.
        transit: version of transit that wrote it.
        version: version of the file's layout.
    """

    network: Annotated[str, NotEmpty()]
    views: Annotated[dict[str, Annotated[int, Range(1, MAX_BINS)]], NotEmpty()]
    target: Annotated[tuple[str, ...], NotEmpty()]
    classes: tuple[str, ...] = ()
    scalars: tuple[ScalarCard, ...] = ()
    members: Annotated[int, Range(1, MAX_MEMBERS)] = 1
    folds: tuple[Annotated[int, Range(0, MAX_MEMBERS)], ...] = ()
    trained_on: str = ""
    simulated: bool = False
    calibration: dict[str, Any] = field(default_factory=dict)
    initialised: str = ""
    unit_depth: tuple[str, ...] = ()
    figures: dict[str, Any] = field(default_factory=dict)
    transit: str = ""
    version: Annotated[int, Range(1, VERSION)] = VERSION

    def __post_init__(self) -> None:
        """Raise ValueError if values contradict each other."""
        if self.folds and len(self.folds) != self.members:
            raise ValueError(f"folds of {len(self.folds)} members, not {self.members}")
        if len(self.classes) == 1 or len(set(self.classes)) != len(self.classes):
            raise ValueError("classes that are not several different labels")
        if self.classes and not set(self.target) <= set(self.classes):
            raise ValueError("a target that is not among the classes")
        Calibrations.parse(self.calibration, self.outputs)

    @property
    def outputs(self) -> int:
        """Logits per sample."""
        return len(self.classes) or 1
