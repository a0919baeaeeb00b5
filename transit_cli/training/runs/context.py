"""What the fits of a run share, the progress of a fit, and its result."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from transit_cli.training.processes.turns import Turn

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from torch import Tensor, nn

    from transit_cli.device.base import Device
    from transit_cli.memory.limit import MemoryLimit
    from transit_cli.training.distributed import ProcessGroup
    from transit_cli.training.plan import FitTask, Plan
    from transit_cli.training.runs.interrupt import Signals
    from transit_cli.training.runs.run import Run
    from transit_cli.training.runs.screen import Screen
    from transit_cli.training.runs.tensorboard import Board


@dataclass(frozen=True)
class RunContext:
    """What all fits of a run share.

    Attributes:
        plan: what is trained, with which settings and where.
        run: the folder to write to.
        limit: the memory limit.
        screen: shows the progress.
        signals: Ctrl-C and SIGTERM, deferred to the end of a step.
        processes: the processes that train each network together.
        board: TensorBoard's event files, if requested.
        prepare: called with each network that is built, before it trains.
        turn: that of a fit beside others on the same device.
    """

    plan: Plan
    run: Run
    limit: MemoryLimit
    screen: Screen
    signals: Signals
    processes: ProcessGroup
    board: Board | None = None
    prepare: Callable[[nn.Module, Device], None] | None = None
    turn: Turn = field(default_factory=Turn)


@dataclass
class Position:
    """The progress of a fit; with the learner's state, everything that is needed to resume it.

    Attributes:
        epoch: completed epochs.
        step: optimizer steps within the current epoch.
        seconds: time trained.
        best: best validation average precision.
        best_epoch: the epoch that reached it.
        best_steps: optimizer steps taken then.
        finished: whether the fit is complete.
    """

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    best: float = -math.inf
    best_epoch: int = 0
    best_steps: int = 0
    finished: bool = False

    def check(self, epochs: int, steps: int) -> None:
        """Raise ValueError if this is no position in a fit of so many epochs of so many optimizer steps."""
        counts = (self.epoch, self.step, self.best_epoch, self.best_steps)
        if not all(type(count) is int and count >= 0 for count in counts) or self.epoch > epochs or self.step > steps:
            raise ValueError(f"epoch {self.epoch}, step {self.step} of {epochs} epochs of {steps} steps")
        if not all(isinstance(value, float | int) for value in (self.seconds, self.best)):
            raise ValueError("its times are not numbers")


@dataclass(frozen=True)
class FitResult:
    """A trained network.

    Attributes:
        task: what was trained.
        rows: the validation rows, in the view set.
        state: its weights, on the CPU.
        logits: of the validation rows, [N].
        epochs: completed epochs.
        kept_epoch: the epoch whose weights these are.
        metrics: of the validation rows.
        seconds: of training, over all resumptions.
        samples: trained on in that time.
    """

    task: FitTask
    rows: np.ndarray
    state: dict[str, Tensor]
    logits: np.ndarray
    epochs: int
    kept_epoch: int
    metrics: dict[str, float]
    seconds: float
    samples: int
