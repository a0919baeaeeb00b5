"""Training one network: epochs of optimizer steps, validated, checkpointed, resumable at any step."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any

import torch

from transit_cli import console
from transit_cli.memory import pressure
from transit_cli.model import registry
from transit_cli.results import ExitCode, TransitError
from transit_cli.training import checkpoint, ranking_metrics
from transit_cli.training.augment import Augmentation
from transit_cli.training.batch import Batch
from transit_cli.training.context import Fitted, Position
from transit_cli.training.distributed import PeerLostError
from transit_cli.training.learner import Learner
from transit_cli.training.loading.samples import Batching, DeviceLoader, sizes
from transit_cli.training.loading.stream import OnDiskSamples, StreamingLoader, reading_workers
from transit_cli.training.schedule import learning_rate

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from transit_cli.training.context import Job
    from transit_cli.training.loading.samples import BatchLoader
    from transit_cli.training.plan import Task
    from transit_cli.training.settings import TrainSettings

#: Training rows by which the noise of the views is measured.
NOISE_ROWS = 2000
#: Seconds between two halvings of the micro-batch under memory pressure: the first needs time to show.
OOM_COOLDOWN_S = 10.0
#: Seconds that each process leaves to those before it for saving, where some have ended.
RANK_SAVE_DELAY_S = 2.0


class Fit:
    """One fit as it runs."""

    def __init__(self, task: Task, job: Job) -> None:
        settings = job.settings
        self.task, self.job, self.settings, self.processes = task, job, settings, job.processes
        self.folder = job.run.checkpoints(task.name)
        torch.manual_seed(task.seed)
        network = registry.build(settings.network, *sizes(job.examples))
        if job.prepare is not None:
            job.prepare(network, job.device)
        training, self.validation = job.examples.subset(task.train), job.examples.subset(task.validation)
        places = task.validation[self.processes.partition(len(task.validation))]
        self._judged = job.examples.subset(places) if self.processes.world_size > 1 else self.validation
        self.batching = Batching(len(training), settings.batch_size, settings.accumulate)
        self.total_steps = self.batching.steps * settings.epochs
        weighted = settings.replace(positive_weight=positive_weight(settings, training.targets))
        few = torch.arange(0, len(training), max(1, len(training) // NOISE_ROWS))
        augmentation = Augmentation.of(settings, training.take(few)[0])
        all_gather = {"processes": job.processes, "augment": augmentation}
        self.learner = Learner(network, job.device, weighted, self.total_steps, **all_gather)
        self.feed: BatchLoader
        if isinstance(training, OnDiskSamples):
            self.feed = StreamingLoader(training, job.device.torch_device, reading_workers(settings.workers))
        else:
            self.feed = DeviceLoader(training, job.device.torch_device)
        self.position = Position()
        self._before_step = 0, self.learner.random_state()
        self._saved = self._shrunk = time.monotonic()

    def train(self) -> Fitted:
        """Train from the last checkpoint, or from the start, to the end.

        Raises:
            TransitError: the loss is no number any more, memory or disk have run out; the last good state is on disk.
            KeyboardInterrupt: a signal came; the state is saved.
        """
        state = self.processes.broadcast_from_rank0(lambda: checkpoint.latest(self.folder))
        if state:
            self.learner.load_state_dict(state["learner"])
            self.position = Position(**state["position"])
            self.job.screen.advance(self.steps)
        try:
            while not self.position.finished:
                self._epoch()
            return self._result()
        except PeerLostError as lost:
            self._save_after_peer_loss(lost)
            raise

    @property
    def steps(self) -> int:
        """Optimizer steps taken."""
        return self.learner.global_step

    def _epoch(self) -> None:
        position, signals = self.position, self.job.signals
        first, clock = position.step, time.monotonic()
        for group in self.feed.epoch(self.batching, self.task.seed, position.epoch, first):
            if self.processes.world_size > 1:
                self._before_step = self.steps, self.learner.random_state()
            self.learner.learn([Batch(*pair) for pair in group])
            position.step += 1
            self.job.screen.advance()
            minutes = (time.monotonic() - self._saved) / 60
            look, signal, save = self.processes.all_reduce_max(
                self.job.screen.due, signals.pending, minutes > self.settings.checkpoint_minutes
            )
            if look:
                self._look((position.step - first) * self.settings.effective_batch / (time.monotonic() - clock))
            if signal or save:
                position.seconds += time.monotonic() - clock
                first, clock = position.step, time.monotonic()
                self.save()
                self._handle_signal(signal)
        loss = self._mean_loss()
        seconds = time.monotonic() - clock
        samples = min((position.step - first) * self.settings.effective_batch, self.batching.used)
        position.seconds += seconds
        self._end_epoch(loss, samples / max(seconds, 1e-9))
        self._handle_signal(*self.processes.all_reduce_max(signals.pending))

    def _handle_signal(self, signal: int) -> None:
        """Let a signal that has reached any process act in each."""
        if signal:
            self.job.signals.pending = signal
            self.job.signals.deliver()

    def _look(self, speed: float) -> None:
        """Read the device for the screen, and see whether all is well."""
        loss, job = self._mean_loss(), self.job
        rate = learning_rate(self.settings, self.steps, self.total_steps)
        level, memory = pressure.read().level, job.device.memory().driver
        job.screen.draw(self.position.epoch + 1, loss=loss, rate=rate, speed=speed, memory=memory, pressure=level)
        if reason := job.limit.exceeded():
            job.device.empty_cache()
            waited = time.monotonic() - self._shrunk > OOM_COOLDOWN_S
            reason = job.limit.exceeded() if waited and self.learner.micro_batch > 1 else ""
        if any(self.processes.all_reduce_max(bool(reason))):
            self._shrunk = time.monotonic()
            self.learner.halve_micro_batch(reason or "in another process")

    def _mean_loss(self) -> float:
        """The epoch's mean loss so far; it waits for the device.

        Raises:
            TransitError: it is no number.
        """
        loss = float(self.learner.loss) / max(self.position.step, 1)
        if self.learner.finite():
            return loss
        raise self._diverged(f"the loss of {self.task.name} is {loss} at step {self.steps}")

    def _diverged(self, found: str) -> TransitError:
        viewset, rate = self.settings.viewset or "", self.settings.learning_rate / 5
        error = TransitError(
            found,
            wanted=f"finite numbers; saved before: {self._last_saved()}",
            fix=f"transit train {viewset} --preset stable, or --learning-rate {rate:g}",
            code="diverged",
        )
        return self.processes.report_on_rank0(error)

    def _save_after_peer_loss(self, lost: PeerLostError) -> None:
        """Save where the processes stopped together; the first one that is left does, and says why.

        On a GPU the weights may wait for a sum that will never come: there the last checkpoint has to do.
        """
        steps, random = self._before_step
        if self.steps == steps:  # stopped within a step, of which nothing but random numbers has been used
            self.learner.set_random_state(random)
        on_cpu = self.job.device.kind == "cpu"
        if self.processes.rank:
            self.folder.mkdir(parents=True, exist_ok=True)
            before = self.folder.stat().st_mtime_ns
            time.sleep(min(self.processes.rank, 10) * RANK_SAVE_DELAY_S)
            if self.folder.stat().st_mtime_ns != before or not on_cpu:
                return  # one before this has saved, and says so
        if on_cpu:
            self.save(anyone=True)
        lost.wanted += f"; saved: {self._last_saved()}"
        lost.code = "process-ended"

    def _last_saved(self) -> str:
        files = checkpoint.files(self.folder)
        return f"step {checkpoint.steps_of(files[-1])} in {self.folder}" if files else f"nothing of {self.task.name}"

    def _end_epoch(self, loss: float, speed: float) -> None:
        """Validate, log, judge whether to stop, save."""
        settings, position = self.settings, self.position
        rate = learning_rate(settings, self.steps - 1, self.total_steps)
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
            "memory_bytes": self.job.device.memory().driver,
        }
        record |= {f"validation_{name}": value for name, value in found.items()}
        if self.processes.rank == 0:
            self.job.run.log(record)
            if self.job.board:
                self.job.board.log(record)
        self.job.screen.epoch(self.task.name, position.epoch, loss, precision, speed)
        if settings.empty_cache_epochs and position.epoch % settings.empty_cache_epochs == 0:
            self.job.device.empty_cache()
        self.save()

    def _score(self) -> np.ndarray:
        with self.learner.average.applied():
            return self.processes.all_gather(
                ranking_metrics.score(self.learner.step.network, self._judged, self.job.device)
            )

    def save(self, *, anyone: bool = False) -> None:
        """Write a checkpoint, in process 0 unless `anyone` may.

        Raises:
            TransitError: a weight is no number, or the disk does not take it; the checkpoints before stay.
        """
        if not self.learner.weights_finite():
            raise self._diverged(f"weights of {self.task.name} are no numbers at step {self.steps}")
        self._saved = time.monotonic()
        if self.processes.rank and not anyone:
            return
        state = {"position": dataclasses.asdict(self.position), "learner": self.learner.state_dict()}
        try:
            checkpoint.save(self.folder, self.steps, state)
        except OSError as error:
            raise TransitError(
                f"the checkpoint of step {self.steps} cannot be written: {error.strerror or error}",
                wanted=f"room and permission in {self.folder}; saved before: {self._last_saved()}",
                fix=f"free some space, then transit train --resume {self.job.run.path}",
                exit_code=ExitCode.MACHINE,
                code="checkpoint-unwritable",
            ) from error
        checkpoint.prune(self.folder, self.settings.keep_checkpoints, {self.position.best_steps})

    def _result(self) -> Fitted:
        position, kept = self.position, self.position.epoch
        if self.settings.patience and position.best_steps != self.steps:
            best = self.processes.broadcast_from_rank0(lambda: checkpoint.at(self.folder, position.best_steps))
            if best is None:
                console.warn(f"the best checkpoint of {self.task.name} is torn: keeping the last weights")
            else:
                self.learner.load_state_dict(best["learner"])
                kept = position.best_epoch
        logits = self._score()
        return Fitted(
            task=self.task,
            rows=self.validation.rows,
            state=self.learner.weights(),
            logits=logits,
            epochs=position.epoch,
            kept_epoch=kept,
            metrics=ranking_metrics.ranking(self.validation.targets.numpy(), logits),
            seconds=position.seconds,
            samples=self.batching.used * position.epoch,
        )


def positive_weight(settings: TrainSettings, targets: Tensor) -> float:
    """The weight of a positive in the loss, with the class weighting that is asked for."""
    positives = float(targets.sum())
    if settings.class_weighting == "none" or positives == 0:
        return settings.positive_weight
    return settings.positive_weight * (len(targets) - positives) / positives
