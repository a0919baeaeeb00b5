"""What a fit is given, how far it has come, and what it leaves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from torch import Tensor, nn

    from transit_cli.device.base import Device
    from transit_cli.memory.limit import MemoryLimit
    from transit_cli.training.distributed import ProcessGroup
    from transit_cli.training.interrupt import DeferredSignals
    from transit_cli.training.loading.samples import InMemorySamples
    from transit_cli.training.loading.stream import OnDiskSamples
    from transit_cli.training.plan import Task
    from transit_cli.training.run import Run
    from transit_cli.training.screen import Screen
    from transit_cli.training.settings import TrainSettings
    from transit_cli.training.tensorboard import Board


@dataclass(frozen=True)
class Job:
    """What all fits of a run share.

    Attributes:
        settings: how to train.
        examples: what the places of a task are places in.
        device: where to compute.
        run: the folder to write to.
        limit: the memory to stay within.
        screen: what to show progress on.
        signals: Ctrl-C and SIGTERM, held back.
        processes: those that train each network together.
        board: TensorBoard's event files, if they are asked for.
        prepare: is shown each network that is built, before it trains.
    """

    settings: TrainSettings
    examples: InMemorySamples | OnDiskSamples
    device: Device
    run: Run
    limit: MemoryLimit
    screen: Screen
    signals: DeferredSignals
    processes: ProcessGroup
    board: Board | None = None
    prepare: Callable[[nn.Module, Device], None] | None = None


@dataclass
class Position:
    """How far a fit has come; with the learner's state, all that it needs to go on."""

    epoch: int = 0
    "Epochs completed."
    step: int = 0
    "Optimizer steps within the current epoch."
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
        rows: the validation rows, in the view set.
        state: its weights, on the CPU.
        logits: of the validation rows, [N].
        epochs: that it took.
        kept_epoch: the epoch whose weights these are.
        metrics: of the validation rows.
        seconds: of training, over all resumptions.
        samples: that passed in them.
    """

    task: Task
    rows: np.ndarray
    state: dict[str, Tensor]
    logits: np.ndarray
    epochs: int
    kept_epoch: int
    metrics: dict[str, float]
    seconds: float
    samples: int
