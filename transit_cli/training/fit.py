"""Trains one network: epochs of optimizer steps, validated, checkpointed, resumable at any step."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any

import torch

from transit_cli import console
from transit_cli.memory import pressure
from transit_cli.results import ExitCode, TransitError
from transit_cli.training.distributed import PeerLostError
from transit_cli.training.learner import Learner
from transit_cli.training.loading.samples import Batching
from transit_cli.training.optimization.augment import Augmentation
from transit_cli.training.optimization.schedule import learning_rate
from transit_cli.training.runs import checkpoint, ranking_metrics
from transit_cli.training.runs.context import FitResult, Position

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from torch import Tensor

    from transit_cli.training.plan import FitTask
    from transit_cli.training.runs.context import RunContext
    from transit_cli.training.settings import TrainSettings

#: Training samples on which the noise level of the views is measured.
NOISE_SAMPLES = 2000
#: Seconds between two halvings of the micro-batch under memory pressure: the first needs time to take effect.
OOM_COOLDOWN_S = 10.0
#: Seconds that each rank waits for each rank before it to save, after a process was lost.
RANK_SAVE_DELAY_S = 2.0


class Fit:
    """The training of one task of the plan.

    Args:
        task: the network to train.
        context: what it shares with the other fits of the run.
    """

    def __init__(self, task: FitTask, context: RunContext) -> None:
        plan, settings = context.plan, context.plan.settings
        self.task, self.context, self.settings, self.processes = task, context, settings, context.processes
        self.device = plan.device
        self.folder = context.run.checkpoints(task.name)
        torch.manual_seed(task.seed)
        training, self.validation = plan.samples.subset(task.train), plan.samples.subset(task.validation)
        network = plan.build_network(task.seed, training)
        if context.prepare is not None:
            context.prepare(network, plan.device)
        part = task.validation[self.processes.partition(len(task.validation))]
        self._scored = plan.samples.subset(part) if self.processes.world_size > 1 else self.validation
        self.batching = Batching(len(training), settings.batch_size, settings.accumulate)
        self.total_steps = self.batching.steps * settings.epochs
        weighted, weights = settings, class_weights(settings, training.targets, plan.classes)
        if not plan.classes:
            weighted = settings.replace(positive_weight=positive_weight(settings, training.targets))
        few = torch.arange(0, len(training), max(1, len(training) // NOISE_SAMPLES))
        augmentation = Augmentation.of(settings, training.take(few)[0])
        self.learner = Learner(
            network,
            plan.device,
            weighted,
            self.total_steps,
            processes=self.processes,
            augment=augmentation,
            class_weights=weights,
        )
        self.loader = training.loader(plan.device.torch_device, settings.workers)
        self.position = Position()
        self._before_step = 0, self.learner.random_state()
        self._saved = self._halved = time.monotonic()

    def train(self) -> FitResult:
        """Train to the end, from the last checkpoint or from the start.

        Raises:
            TransitError: the loss is NaN or infinite, or memory or disk have run out; the last good state is saved.
            KeyboardInterrupt: a signal was received; the state is saved.
        """
        state = self.processes.broadcast_from_rank0(lambda: checkpoint.latest(self.folder))
        if state is not None:
            self._restore(state)
            self.context.screen.advance(self.steps)
            self.context.screen.say(self._resumed())
        try:
            while not self.position.finished:
                self._epoch()
            return self._result()
        except PeerLostError as lost:
            self._save_after_peer_loss(lost)
            raise

    def _resumed(self) -> str:
        position, epochs = self.position, self.settings.epochs
        if position.finished:
            return f"{self.task.name}: complete after {position.epoch} epochs"
        return (
            f"{self.task.name}: resumes at step {self.steps} of {self.total_steps}, epoch {position.epoch + 1}/{epochs}"
        )

    def _restore(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint.

        Raises:
            TransitError: it is not one of this fit.
        """
        try:
            self.learner.load_state_dict(state["learner"])
            self.position = Position(**state["position"])
            self.position.check(self.settings.epochs, self.batching.steps)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            reason = next(iter(str(error).splitlines()), "")
            raise checkpoint.invalid(self.folder, f"has a checkpoint of another network or run: {reason}") from error

    @property
    def steps(self) -> int:
        """Optimizer steps taken."""
        return self.learner.global_step

    def _epoch(self) -> None:
        position, signals = self.position, self.context.signals
        first, clock = position.step, time.monotonic()
        for group in self.loader.epoch(self.batching, self.task.seed, position.epoch, first):
            if self.processes.world_size > 1:
                self._before_step = self.steps, self.learner.random_state()
            self.learner.learn(group)
            position.step += 1
            self.context.screen.advance()
            self.context.turn.step()
            minutes = (time.monotonic() - self._saved) / 60
            show, signal, save = self.processes.all_reduce_max(
                self.context.screen.due, signals.pending, minutes > self.settings.checkpoint_minutes
            )
            if show:
                self._log_progress((position.step - first) * self.settings.effective_batch / (time.monotonic() - clock))
            if signal or save:
                position.seconds += time.monotonic() - clock
                first, clock = position.step, time.monotonic()
                self.save()
                self._handle_signal(signal)
        with self.context.turn.waiting():
            loss = self._mean_loss()
        seconds = time.monotonic() - clock
        samples = min((position.step - first) * self.settings.effective_batch, self.batching.samples)
        position.seconds += seconds
        self._end_epoch(loss, samples / max(seconds, 1e-9))
        self._handle_signal(*self.processes.all_reduce_max(signals.pending))

    def _handle_signal(self, signal: int) -> None:
        """Deliver a signal that any of the processes has received."""
        if signal:
            self.context.signals.deliver(signal)

    def _log_progress(self, speed: float) -> None:
        """Update the screen, and check the loss and the memory limit; waits for the device."""
        loss, limit = self._mean_loss(), self.context.limit
        rate = learning_rate(self.settings, self.steps, self.total_steps)
        level, memory = pressure.read().level, self.device.memory().driver
        epoch = self.position.epoch + 1
        self.context.screen.draw(epoch, loss=loss, rate=rate, speed=speed, memory=memory, pressure=level)
        if reason := limit.exceeded():
            self.device.empty_cache()
            waited = time.monotonic() - self._halved > OOM_COOLDOWN_S
            reason = limit.exceeded() if waited and self.learner.micro_batch > 1 else ""
        if any(self.processes.all_reduce_max(bool(reason))):
            self._halved = time.monotonic()
            self.learner.halve_micro_batch(reason or "in another process")

    def _mean_loss(self) -> float:
        """The epoch's mean loss so far; waits for the device.

        Raises:
            TransitError: it is NaN or infinite.
        """
        loss = float(self.learner.loss) / max(self.position.step, 1)
        if self.learner.finite():
            return loss
        raise self._diverged(f"the loss of {self.task.name} is {loss} at step {self.steps}")

    def _diverged(self, found: str) -> TransitError:
        viewset, rate = self.settings.viewset or "", self.settings.learning_rate / 5
        error = TransitError(
            found,
            wanted=f"finite values; last saved: {self._last_saved()}",
            fix=f"transit train {viewset} --preset stable, or --learning-rate {rate:g}",
            code="diverged",
        )
        return self.processes.report_on_rank0(error)

    def _save_after_peer_loss(self, lost: PeerLostError) -> None:
        """Save the state in which the processes stopped, from the lowest rank that is left, which reports the error.

        On a GPU the weights may wait for a collective that never completes: there the last checkpoint is kept.
        """
        steps, random = self._before_step
        if self.steps == steps:  # stopped within a step, which has only drawn random numbers
            self.learner.set_random_state(random)
        on_cpu = self.device.kind == "cpu"
        if self.processes.rank:
            self.folder.mkdir(parents=True, exist_ok=True)
            before = self.folder.stat().st_mtime_ns
            time.sleep(min(self.processes.rank, 10) * RANK_SAVE_DELAY_S)
            if self.folder.stat().st_mtime_ns != before or not on_cpu:
                return  # a lower rank has saved, and reports it
        if on_cpu:
            self.save(any_rank=True)
        lost.wanted += f"; saved: {self._last_saved()}"
        lost.code = "process-ended"

    def _last_saved(self) -> str:
        files = checkpoint.files(self.folder)
        return f"step {checkpoint.steps_of(files[-1])} in {self.folder}" if files else f"nothing of {self.task.name}"

    def _end_epoch(self, loss: float, speed: float) -> None:
        """Validate, log, decide whether to stop, save."""
        settings, position = self.settings, self.position
        rate = learning_rate(settings, self.steps - 1, self.total_steps)
        with self.context.turn.waiting():
            found = ranking_metrics.ranking(self.validation.targets.numpy(), self._score())
        precision = found["average_precision"]
        position.epoch, position.step = position.epoch + 1, 0
        self.learner.loss.zero_()
        if precision > position.best:
            position.best, position.best_epoch, position.best_steps = precision, position.epoch, self.steps
        waited = position.epoch - position.best_epoch
        position.finished = position.epoch >= settings.epochs or 0 < settings.patience <= waited
        record: dict[str, Any] = {
            "fit": self.task.name,
            "epoch": position.epoch,
            "step": self.steps,
            "loss": loss,
            "learning_rate": rate,
            "samples_per_second": speed,
            "seconds": position.seconds,
            "micro_batch": self.learner.micro_batch,
            "execution": self.learner.runner.execution,
            "precision": self.context.plan.precision,
            "memory_bytes": self.device.memory().driver,
        }
        record |= {f"validation_{name}": value for name, value in found.items()}
        if self.processes.rank == 0:
            self.context.run.log(record)
            if self.context.board:
                self.context.board.log(record)
        self.context.screen.epoch(self.task.name, position.epoch, loss, precision, speed)
        if settings.empty_cache_epochs and position.epoch % settings.empty_cache_epochs == 0:
            self.device.empty_cache()
        self.save()

    def _score(self) -> np.ndarray:
        with self.learner.average.applied():
            return self.processes.all_gather(
                ranking_metrics.score(self.learner.step.network, self._scored, self.device, self.settings.execution)
            )

    def save(self, *, any_rank: bool = False) -> None:
        """Write a checkpoint, on rank 0 only unless `any_rank`.

        Raises:
            TransitError: a weight is NaN or infinite, or writing fails; the previous checkpoints are kept.
        """
        if not self.learner.weights_finite():
            raise self._diverged(f"weights of {self.task.name} are NaN or infinite at step {self.steps}")
        self._saved = time.monotonic()
        if self.processes.rank and not any_rank:
            return
        state = {"position": dataclasses.asdict(self.position), "learner": self.learner.state_dict()}
        try:
            with self.context.turn.waiting():
                checkpoint.save(self.folder, self.steps, state)
        except OSError as error:
            raise TransitError(
                f"the checkpoint of step {self.steps} cannot be written: {error.strerror or error}",
                wanted=f"free space and permission to write in {self.folder}; last saved: {self._last_saved()}",
                fix=f"free some space, then transit train --resume {self.context.run.path}",
                exit_code=ExitCode.MACHINE,
                code="checkpoint-unwritable",
            ) from error
        checkpoint.prune(self.folder, self.settings.keep_checkpoints, {self.position.best_steps})

    def _result(self) -> FitResult:
        position, kept = self.position, self.position.epoch
        if self.settings.patience and position.best_steps != self.steps:
            best = self.processes.broadcast_from_rank0(lambda: checkpoint.at(self.folder, position.best_steps))
            if best is None:
                console.warn(f"the best checkpoint of {self.task.name} is corrupt: keeping the last weights")
            else:
                self._restore(best | {"position": dataclasses.asdict(position)})
                kept = position.best_epoch
        logits = self._score()
        return FitResult(
            task=self.task,
            rows=self.validation.rows,
            state=self.learner.weights(),
            logits=logits,
            epochs=position.epoch,
            kept_epoch=kept,
            metrics=ranking_metrics.ranking(self.validation.targets.numpy(), logits),
            seconds=position.seconds,
            samples=self.batching.samples * position.epoch,
        )


def positive_weight(settings: TrainSettings, targets: Tensor) -> float:
    """The weight of a positive in the loss, with the class weighting in the settings."""
    positives = float(targets.sum())
    if settings.class_weighting == "none" or positives == 0:
        return settings.positive_weight
    return settings.positive_weight * (len(targets) - positives) / positives


def class_weights(settings: TrainSettings, targets: Tensor, classes: Sequence[str]) -> list[float]:
    """The weight of each class in the loss of a network of several classes; empty if all are 1, or it is binary.

    `balanced` gives each class the weight of the largest; `--positive-weight` is that of planets.
    """
    if not classes:
        return []
    counts = targets.sum(dim=0)
    balanced = (counts.max() / counts).tolist() if settings.class_weighting == "balanced" else [1.0] * len(classes)
    weights = [
        weight * (settings.positive_weight if label == "PC" else 1.0)
        for label, weight in zip(classes, balanced, strict=True)
    ]
    return [] if set(weights) == {1.0} else weights
