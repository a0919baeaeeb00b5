"""Training one network: epochs of optimizer steps, validated, checkpointed, resumable at any step."""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from transit_cli import console
from transit_cli.data.feed import Batching, Resident
from transit_cli.memory import pressure
from transit_cli.model import registry
from transit_cli.results import ExitCode, TransitError
from transit_cli.training import checkpoint, metrics
from transit_cli.training.augment import Augmentation
from transit_cli.training.average import WeightAverage
from transit_cli.training.schedule import learning_rate
from transit_cli.training.step import Batch, Step

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from torch import Tensor

    from transit_cli.data.feed import Examples
    from transit_cli.device.base import Device
    from transit_cli.memory.limit import MemoryLimit
    from transit_cli.training.interrupt import Deferred
    from transit_cli.training.plan import Task
    from transit_cli.training.run import Run
    from transit_cli.training.screen import Screen
    from transit_cli.training.settings import TrainSettings

#: Version of a checkpoint's content.
FORMAT = 1


@dataclass
class Position:
    """How far a fit has come: with weights, optimizer and random numbers, all that it needs to go on."""

    epoch: int = 0
    "Epochs completed."
    step: int = 0
    "Optimizer steps within the current epoch."
    micro: int = 0
    "Samples of a micro-batch now: the batch size, or less where memory is short."
    seconds: float = 0.0
    "Time trained."
    best: float = -math.inf
    "Best validation average precision."
    best_epoch: int = 0
    best_steps: int = 0
    finished: bool = False


@dataclass(frozen=True)
class Fitted:
    """A trained network.

    Attributes:
        task: what it was.
        state: its weights, on the CPU.
        logits: of the validation rows, [N].
        epochs: that it took.
        kept_epoch: the epoch whose weights these are.
        metrics: of the validation rows.
        seconds: of training, over all resumptions.
        samples: that passed in them.
    """

    task: Task
    state: dict[str, Tensor]
    logits: np.ndarray
    epochs: int
    kept_epoch: int
    metrics: dict[str, float]
    seconds: float
    samples: int


@dataclass
class Fit:
    """One fit as it runs.

    Args:
        task: what to train.
        settings: how.
        device: where.
        run: the folder to write to.
        screen: what to show it on.
        limit: the memory to stay within.
        signals: Ctrl-C and SIGTERM, held back.
    """

    task: Task
    settings: TrainSettings
    device: Device
    run: Run
    screen: Screen
    limit: MemoryLimit
    signals: Deferred
    position: Position = field(default_factory=Position)

    def __post_init__(self) -> None:
        settings, task = self.settings, self.task
        torch.manual_seed(task.seed)
        views = {name: values for name, values in task.train.inputs.items() if name != "scalars"}
        scalars = task.train.inputs["scalars"].shape[1] if "scalars" in task.train.inputs else 0
        network = registry.build(settings.network, {name: v.shape[1] for name, v in views.items()}, scalars)
        self.batching = Batching(len(task.train), settings.batch_size, settings.accumulate)
        self.total_steps = self.batching.steps * settings.epochs
        weighted = settings.replace(positive_weight=positive_weight(settings, task.train))
        self.step = Step(network, self.device, weighted, self.total_steps)
        self.average = WeightAverage(network, settings.ema)
        self.augmentation = Augmentation.of(settings, views)
        self.feed = Resident(task.train, self.device.torch_device)
        self.validation = task.validation.to(self.device.torch_device)
        self.position.micro = settings.batch_size
        self.loss = torch.zeros((), device=self.device.torch_device)
        self._saved = self._checked = time.monotonic()

    @property
    def folder(self) -> Path:
        """Where its checkpoints lie."""
        return self.run.checkpoints(self.task.name)

    def train(self) -> Fitted:
        """Train from the last checkpoint, or from the start, to the end.

        Raises:
            TransitError: the loss is no number any more, memory or disk have run out; the last good state is on disk.
            KeyboardInterrupt: a signal came; the state is saved.
        """
        state = checkpoint.latest(self.folder)
        self.run.forget_after(self.task.name, state["step"]["steps"] if state else 0)
        if state:
            self.restore(state)
            self.screen.advance(self.step.steps)
        while not self.position.finished:
            self._epoch()
        return self._result()

    def _epoch(self) -> None:
        position, start, clock = self.position, self.position.step, time.monotonic()
        self.screen.validation = self.screen.validation if position.epoch else math.nan
        for group in self.feed.epoch(self.batching, self.task.seed, position.epoch, start):
            batches = [self.augmentation(Batch(*pair)) for pair in group]
            self.loss += self._step(batches)
            position.step += 1
            self.screen.advance()
            if self.screen.due:
                self._look((position.step - start) * self.settings.effective_batch / (time.monotonic() - clock))
            if self.signals.pending or time.monotonic() - self._saved > 60 * self.settings.checkpoint_minutes:
                position.seconds += time.monotonic() - clock
                clock, start = time.monotonic(), position.step
                self.save()
                self.signals.deliver()
        self._end_epoch(time.monotonic() - clock, position.step - start)
        self.signals.deliver()

    def _step(self, batches: list[Batch]) -> Tensor:
        """One optimizer step, in smaller micro-batches where memory runs out."""
        while True:
            try:
                loss = self.step.step(smaller(batches, self.position.micro))
            except Exception as error:
                if not self.device.is_out_of_memory(error):
                    raise
                self._halve(str(error).splitlines()[0], error)
            else:
                self.average.update(self.step.steps)
                return loss

    def _halve(self, why: str, error: Exception | None = None) -> None:
        """Go on with half the micro-batch: the effective batch stays, so what is learned does too."""
        self.step.optimizer.zero_grad(set_to_none=True)
        self.device.empty_cache()
        if self.position.micro <= 1:
            raise TransitError(
                f"out of memory with one sample at a time: {why}",
                wanted="memory for one sample's forward and backward pass",
                fix=f"close other programs, then transit train --resume {self.run.path}",
                exit_code=ExitCode.MACHINE,
                code="out-of-memory",
            ) from error
        self.position.micro //= 2
        console.warn(
            f"memory is short ({why}): going on with micro-batches of {self.position.micro}, the same in effect"
        )

    def _look(self, speed: float) -> None:
        """Read the device for the screen, and see whether all is well."""
        steps = self.position.step or 1
        loss = float(self.loss) / steps
        self._check_finite(loss)
        rate = learning_rate(self.settings, self.step.steps, self.total_steps)
        state = pressure.read()
        memory = self.device.memory().driver
        self.screen.draw(
            self.position.epoch + 1, loss=loss, rate=rate, speed=speed, memory=memory, pressure=state.level
        )
        if reason := self.limit.exceeded():
            self.device.empty_cache()
            if time.monotonic() - self._checked > 10 and self.position.micro > 1 and self.limit.exceeded():
                self._checked = time.monotonic()
                self._halve(reason)

    def _check_finite(self, loss: float) -> None:
        if math.isfinite(loss) or (self.step.precision == "fp16" and self._weights_finite()):
            return  # where the scaler met an infinity it has passed over that step
        saved = checkpoint.files(self.folder)
        where = f"the state after step {checkpoint.steps_of(saved[-1])} is in {self.folder}" if saved else "nothing yet"
        again = self.settings.viewset or ""
        raise TransitError(
            f"the loss of {self.task.name} is {loss} at step {self.step.steps}",
            wanted=f"a finite loss; saved: {where}",
            fix=f"transit train {again} --preset stable, or --learning-rate {self.settings.learning_rate / 5:g}",
            code="diverged",
        )

    def _weights_finite(self) -> bool:
        return bool(torch.stack([weight.isfinite().all() for weight in self.step.parameters]).all())

    def _end_epoch(self, seconds: float, steps: int) -> None:
        settings, position = self.settings, self.position
        loss = float(self.loss) / max(position.step, 1)
        self._check_finite(loss)
        speed = min(steps * settings.effective_batch, self.batching.used) / max(seconds, 1e-9)
        found = metrics.ranking(self.task.validation.targets.numpy(), self._score())
        position.seconds += seconds
        position.epoch, position.step = position.epoch + 1, 0
        self.loss.zero_()
        if found["average_precision"] > position.best:
            position.best, position.best_epoch = found["average_precision"], position.epoch
            position.best_steps = self.step.steps
        waited = position.epoch - position.best_epoch
        position.finished = position.epoch >= settings.epochs or 0 < settings.patience <= waited
        record = {"fit": self.task.name, "epoch": position.epoch, "step": self.step.steps, "loss": loss}
        record |= {"learning_rate": learning_rate(self.settings, self.step.steps - 1, self.total_steps)}
        record |= {"samples_per_second": speed, "seconds": position.seconds, "micro_batch": position.micro}
        record |= {"memory_bytes": self.device.memory().driver}
        self.run.log(record | {f"validation_{name}": value for name, value in found.items()})
        self.screen.epoch(self.task.name, position.epoch, loss, found["average_precision"], speed)
        if settings.empty_cache_epochs and position.epoch % settings.empty_cache_epochs == 0:
            self.device.empty_cache()
        self.save()

    def _score(self) -> np.ndarray:
        with self.average.applied():
            return metrics.score(self.step.network, self.validation, self.device)

    def save(self) -> None:
        """Write a checkpoint; a state with a weight that is no number is never written."""
        if not self._weights_finite():
            self._check_finite(math.nan)
        state = {
            "format": FORMAT,
            "fit": self.task.name,
            "position": dataclasses.asdict(self.position),
            "loss": self.loss,
            "network": self.step.network.state_dict(),
            "average": self.average.values,
            "step": self.step.state_dict(),
            "random": {"cpu": torch.get_rng_state(), "device": self.device.rng_state()},
        }
        try:
            checkpoint.save(self.folder, self.step.steps, state)
        except OSError as error:
            raise self._cannot_save(error) from error
        checkpoint.prune(self.folder, self.settings.keep_checkpoints, {self.position.best_steps})
        self._saved = time.monotonic()

    def _cannot_save(self, error: OSError) -> TransitError:
        saved = checkpoint.files(self.folder)
        kept = f"step {checkpoint.steps_of(saved[-1])} of {self.task.name}" if saved else "nothing of this fit"
        return TransitError(
            f"the checkpoint of step {self.step.steps} cannot be written: {error.strerror or error}",
            wanted=f"room and permission in {self.folder}; saved before: {kept}",
            fix=f"free some space, then transit train --resume {self.run.path}",
            exit_code=ExitCode.MACHINE,
            code="checkpoint-unwritable",
        )

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint's state, as if there had been no stop."""
        self.step.network.load_state_dict(state["network"])
        self.average.load(state["average"])
        self.step.load_state_dict(state["step"])
        self.position = Position(**state["position"])
        self.loss = state["loss"].to(self.device.torch_device)
        torch.set_rng_state(state["random"]["cpu"])
        self.device.set_rng_state(state["random"]["device"])

    def _result(self) -> Fitted:
        position, kept = self.position, self.position.epoch
        if self.settings.patience and position.best_steps != self.step.steps:
            best = checkpoint.at(self.folder, position.best_steps)
            if best is None:
                console.warn(f"the best checkpoint of {self.task.name} is torn: keeping the last weights")
            else:
                self.restore(best)
                kept = position.best_epoch
        logits = self._score()
        with self.average.applied():
            state = {name: value.detach().cpu().clone() for name, value in self.step.network.state_dict().items()}
        found = metrics.ranking(self.task.validation.targets.numpy(), logits)
        samples = self.batching.used * position.epoch
        return Fitted(self.task, state, logits, position.epoch, kept, found, position.seconds, samples)


def smaller(batches: list[Batch], micro: int) -> list[Batch]:
    """The same samples in micro-batches of at most `micro`."""
    if all(len(batch) <= micro for batch in batches):
        return batches
    cut: list[Batch] = []
    for batch in batches:
        parts = {name: values.split(micro) for name, values in batch.inputs.items()}
        cut += [
            Batch({name: values[index] for name, values in parts.items()}, target)
            for index, target in enumerate(batch.targets.split(micro))
        ]
    return cut


def positive_weight(settings: TrainSettings, examples: Examples) -> float:
    """The weight of a positive in the loss, with the class weighting that is asked for."""
    positives = float(examples.targets.sum())
    if settings.class_weighting == "none" or positives == 0:
        return settings.positive_weight
    return settings.positive_weight * (len(examples) - positives) / positives
