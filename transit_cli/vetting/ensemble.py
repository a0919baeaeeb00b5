"""Trained networks whose scores are averaged, opened from a run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from transit_cli.data.views.make import unit_depth
from transit_cli.data.viewset import ViewSet
from transit_cli.model import saved
from transit_cli.model.calibration import Calibration, Calibrations, log_probabilities
from transit_cli.results import ExitCode, TransitError
from transit_cli.training import inference
from transit_cli.training.loading import samples
from transit_cli.training.loading.scaling import Scaling, scaled
from transit_cli.utils import remote

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import nn

    from transit_cli.data.storage.stacked_rows import StoredView
    from transit_cli.device.base import Device
    from transit_cli.model.card import Card


@dataclass(frozen=True)
class Ensemble:
    """Networks whose scores are averaged.

    Attributes:
        name: its name in results.
        networks: the members, on the device, in evaluation mode.
        card: description of their inputs, outputs and training.
        device: the device they are on.
        training_set: the view set that they were trained on; None if it is not on this machine any more.
        trained_with: torch, execution, precision and device of the run that trained them; "" if it is not known.
    """

    name: str
    networks: tuple[nn.Module, ...]
    card: Card
    device: Device
    training_set: ViewSet | None = None
    trained_with: str = ""

    @property
    def target(self) -> tuple[str, ...]:
        """The labels that count as positive."""
        return tuple(self.card.target)

    @property
    def trained_on(self) -> str:
        """Description of the training set, with "simulated" if it was simulated."""
        name = self.card.trained_on or "an unnamed view set"
        return name if not self.card.simulated or "simulated" in name else f"{name} (simulated)"

    def trained_stars(self) -> NDArray[np.str_]:
        """The stars in the training set; empty if the set is not available."""
        return self._stars_in(("train", "val") if self.card.folds else ("train",))

    def _stars_in(self, splits: tuple[str, ...]) -> NDArray[np.str_]:
        """The stars in some splits of the training set; empty if it is not available."""
        if self.training_set is None:
            return np.empty(0, str)
        tces = self.training_set.tces
        (stars, star), parts = tces.unique("star"), tces.text("split")
        return stars[np.unique(star[np.isin(parts.values, splits)[parts.codes]])]

    def with_target(self, target: Sequence[str]) -> Ensemble:
        """The same networks, scoring other classes; themselves if `target` is empty.

        Raises:
            TransitError: the networks do not tell these classes apart.
        """
        if not target or list(target) == list(self.target):
            return self
        if not self.card.classes or not set(target) < set(self.card.classes):
            can = (
                f"one or more of {', '.join(self.card.classes)}, not all"
                if self.card.classes
                else ",".join(self.target)
            )
            raise TransitError(
                f"--target {','.join(target)} is not what {self.name} tells apart",
                wanted=can,
                fix="omit --target" + ("" if self.card.classes else ", or train with --target classes"),
                exit_code=ExitCode.USAGE,
                code="target-unknown",
            )
        return replace(self, card=replace(self.card, target=tuple(target)))

    def score(
        self,
        views: Mapping[str, StoredView],
        tces: Mapping[str, NDArray[Any]],
        tick: Callable[[int], object] | None = None,
    ) -> NDArray[np.float64]:
        """The probability that each signal is positive, by each member, calibrated: [M, N].

        See `probabilities`, whose target classes are added up.
        """
        return self.positive(self.probabilities(views, tces, tick))

    def positive(self, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        """The probability of the target [...] from those of the classes [..., C]."""
        return probabilities[..., self.is_target].sum(axis=-1)

    @property
    def is_target(self) -> NDArray[np.bool_]:
        """[C] which classes are the target; a binary network has the classes negative and positive."""
        classes = self.card.classes
        return np.array([label in self.target for label in classes]) if classes else np.array([False, True])

    def probabilities(
        self,
        views: Mapping[str, StoredView],
        tces: Mapping[str, NDArray[Any]],
        tick: Callable[[int], object] | None = None,
    ) -> NDArray[np.float64]:
        """The probability of each class by each member, calibrated: [M, N, C], as `logits`."""
        logits = self.logits(views, tces, tick)
        return self._calibrated(logits, self.calibrations.overall if self.calibrations else None)

    def _calibrated(self, logits: NDArray[np.float64], calibration: Calibration | None) -> NDArray[np.float64]:
        """Probabilities [M, N, C], computed for some signals at a time."""
        members, count = logits.shape[:2]
        found = np.empty((members, count, self.card.outputs if self.card.classes else 2))
        for start in range(0, count, inference.CHUNK):
            part = slice(start, start + inference.CHUNK)
            logarithms = log_probabilities(logits[:, part], self.card.outputs)
            found[:, part] = calibration.apply(logarithms) if calibration else np.exp(logarithms)
        return found

    @property
    def calibrations(self) -> Calibrations | None:
        """The calibrations in the card."""
        return Calibrations.parse(self.card.calibration, self.card.outputs)

    def logits(
        self,
        views: Mapping[str, StoredView],
        tces: Mapping[str, NDArray[Any]],
        tick: Callable[[int], object] | None = None,
    ) -> NDArray[np.float64]:
        """The logits of each signal by each member, not calibrated.

        Args:
            views: [N, L] by name; views that the networks do not use are ignored.
            tces: [N] columns by name; a missing value of a scalar is replaced by the centre of the training set.
            tick: called with the number of signals done.

        Returns:
            [M, N], or [M, N, C] of several classes; NaN for signals with values that are not finite.

        Raises:
            TransitError: a view is missing or has another length.
        """
        self.check({name: values.shape[1] for name, values in views.items()})
        scalings = [Scaling(**vars(scaling)) for scaling in self.card.scalars]
        count = len(next(iter(views.values())))
        outputs = (self.card.outputs,) if self.card.classes else ()
        logits = np.full((len(self.networks), count, *outputs), np.nan)
        for start in range(0, count, inference.CHUNK):
            chunk = slice(start, min(start + inference.CHUNK, count))
            inputs = {name: np.array(views[name][chunk], np.float32) for name in self.card.views}
            inputs |= {name: unit_depth(inputs[name]) for name in self.card.unit_depth}
            finite = np.all([np.isfinite(view).all(1) for view in inputs.values()], axis=0)
            if scalings:
                own = {scaling.column for scaling in scalings} & set(tces) or {next(iter(tces))}
                inputs["scalars"] = scaled({name: tces[name][chunk] for name in own}, scalings)
            if finite.any():
                tensors = {name: torch.from_numpy(values[finite]) for name, values in inputs.items()}
                found = inference.logits(self.networks, tensors, self.device).numpy().astype(np.float64)
                logits[:, start : start + len(finite)][:, finite] = found
            if tick:
                tick(start + len(finite))
        return logits

    def score_rows(
        self, viewset: ViewSet, rows: NDArray[np.int64], tick: Callable[[int], object] | None = None
    ) -> NDArray[np.float64]:
        """Scores of some rows of a view set, see `probabilities_of_rows`: [M, R]."""
        return self.positive(self.probabilities_of_rows(viewset, rows, tick))

    def probabilities_of_rows(
        self, viewset: ViewSet, rows: NDArray[np.int64], tick: Callable[[int], object] | None = None
    ) -> NDArray[np.float64]:
        """Probabilities of the classes of some rows of a view set: [M, R, C].

        For networks that were trained on folds, a star of the training set is scored only by the members that it was
        held out from; those of the other members are NaN. A star on which the calibration was fitted gets the one that
        was fitted without its part of the stars.
        """
        self.check(viewset.lengths)
        stored, tces = {name: viewset.views[name] for name in self.card.views}, viewset.tces.take(rows)
        parts = []
        for start in range(0, max(len(rows), 1), inference.CHUNK):
            chunk = slice(start, start + inference.CHUNK)
            parts.append(self.logits({n: values[rows[chunk]] for n, values in stored.items()}, tces.take(chunk)))
            if tick:
                tick(min(start + inference.CHUNK, len(rows)))
        logits, stars = np.concatenate(parts, axis=1), tces["star"]
        if self.card.folds:
            held_out = samples.assign_folds(viewset, rows, max(self.card.folds) + 1)
            known = np.isin(stars, self.trained_stars())
            for member, fold in enumerate(self.card.folds):
                logits[member, known & (held_out != fold)] = np.nan
        logarithms = log_probabilities(logits, self.card.outputs)
        if self.calibrations is None:
            return np.exp(logarithms)
        found = self.calibrations.overall.apply(logarithms)
        part = samples.assign_folds(viewset, rows, len(self.calibrations.parts))
        part[~np.isin(stars, self._stars_in(("train", "val") if self.card.folds else ("val",)))] = -1
        for number, calibration in enumerate(self.calibrations.parts):
            found[:, part == number] = calibration.apply(logarithms[:, part == number])
        return found

    def check(self, lengths: Mapping[str, int]) -> None:
        """Raise the error for views, given by their lengths, that do not fit these networks."""
        wanted = ", ".join(f"{name} of {length} bins" for name, length in self.card.views.items())
        for name, length in self.card.views.items():
            if lengths.get(name) != length:
                found = f"have {lengths[name]} bins" if name in lengths else "are missing"
                raise TransitError(
                    f"the {name} views {found}",
                    wanted=f"the views that {self.name} was trained on: {wanted}",
                    fix="make views with these lengths (transit data prepare --help), or use another network",
                    code="view-mismatch",
                )


def open_run(path: Path, device: Device, *, trust: bool = False) -> Ensemble:
    """The finished networks of a run.

    Args:
        path: the run's folder, or a file that holds networks.
        device: the device to compute on.
        trust: execute the Python file of the run's network, if it has one.

    Raises:
        TransitError: the run does not exist or has not finished, or its networks cannot be built.
    """
    file = path / saved.FILE if path.is_dir() or (remote.url(path) and not path.suffix) else path
    file = remote.local(file)
    if not file.is_file():
        from transit_cli.training.runs.run import runs_near

        unfinished = (path / "config.yaml").is_file()
        raise TransitError(
            f"{path} {'is a run that has not finished' if unfinished else 'is not a run'}",
            wanted=f"a folder with {saved.FILE}, written by `transit train`",
            fix=f"transit train --resume {path}"
            if unfinished
            else "give a run's folder, such as " + (", ".join(map(str, runs_near(path))) or "runs/NAME"),
            code="run-unfinished" if unfinished else "run-missing",
        )
    networks, card = saved.load(file, trust=trust)
    placed = tuple(network.to(device.torch_device) for network in networks)
    training_set, trained_with = (_training_set(path), _trained_with(path)) if path.is_dir() else (None, "")
    return Ensemble(str(path), placed, card, device, training_set, trained_with)


def _trained_with(run: Path) -> str:
    """What a run was trained with, if it is recorded."""
    from transit_cli.training.runs import environment

    try:
        return environment.read(run).resolved
    except TransitError:
        return ""


def _training_set(run: Path) -> ViewSet | None:
    """The view set of a run, if it still exists."""
    from transit_cli import config
    from transit_cli.training.settings import TrainSettings

    try:
        viewset = config.resolve(TrainSettings, {}, run / "config.yaml").viewset
        return ViewSet.open(viewset) if viewset else None
    except TransitError:
        return None
