"""How the optimizer step is executed: an executor, chosen with the first batch, and several processes if there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transit_cli.training.distributed import SINGLE_PROCESS, ProcessGroup
from transit_cli.training.execution import selection
from transit_cli.training.execution.data_parallel import DataParallel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from transit_cli.training.batch import Batch
    from transit_cli.training.execution.base import Executor
    from transit_cli.training.step import OptimizerStep


#: Names of executions in checkpoints of before 0.1.0, and what they are called now.
RENAMED = {"captured": "cuda-graph", "blocked": "onednn", "single": "single-thread", "fused": "triton"}


class StepRunner:
    """Runs optimizer steps with an executor that it chooses for the first batch.

    Args:
        step: what to compute.
        processes: the processes that take each step together.

    Attributes:
        executor: None until the first batch has been seen.
        data_parallel: how the gradients of several processes are combined; None for one process.
    """

    def __init__(self, step: OptimizerStep, processes: ProcessGroup = SINGLE_PROCESS) -> None:
        self.step = step
        self.processes = processes
        self.executor: Executor | None = None
        self.data_parallel: DataParallel | None = None
        self._previous_execution = ""

    @property
    def execution(self) -> str:
        """The name of the executor; before the first step that of the state that was resumed, or ""."""
        return self.executor.name if self.executor else self._previous_execution

    @property
    def captures_augmentation(self) -> bool:
        """Whether the executor augments the batches as part of what it has captured."""
        return self.executor is not None and self.executor.captures_augmentation

    def run(self, micro_batches: Sequence[Batch], *, augmented: bool = False) -> Tensor:
        """Take one optimizer step over the effective batch that consists of `micro_batches`.

        Every micro-batch is weighted by its number of samples, so that a smaller last one is exact too.

        Args:
            micro_batches: as the loader yields them.
            augmented: whether `OptimizerStep.augment_batches` has been applied already.

        Returns:
            The effective batch's mean loss: a scalar on the device, detached, not synchronized.
        """
        executor = self._prepare(micro_batches)
        loss = executor.run(micro_batches, augmented=augmented)
        self.executor = executor.fallback or executor
        return loss

    def run_summing(self, micro_batches: Sequence[Batch], total: Tensor, *, augmented: bool = False) -> None:
        """As `run`, with the loss added to `total`, a scalar on the device: a captured step does it by itself.

        It is the same tensor in every step; another one needs a graph of its own.
        """
        executor = self._prepare(micro_batches)
        executor.run_summing(micro_batches, total, augmented=augmented)
        self.executor = executor.fallback or executor

    def _prepare(self, micro_batches: Sequence[Batch]) -> Executor:
        """Put the network in training mode; its modules are gone through only if it is not."""
        if self.executor is None or not self.step.network.training:
            self.step.network.train()
        return self._executor_for(micro_batches)

    def gradients(self, micro_batches: Sequence[Batch]) -> Tensor:
        """Leave the gradients of the mean loss (times the scaler's factor) in `.grad`, and return that mean."""
        return self._executor_for(micro_batches).gradients(micro_batches)

    def _executor_for(self, micro_batches: Sequence[Batch]) -> Executor:
        if not micro_batches:
            raise ValueError("a step needs at least one micro-batch")
        if self.executor is None:
            example = micro_batches[0]
            if self.processes.world_size > 1 and self.data_parallel is None:
                self.data_parallel = DataParallel(self.step, self.processes, example)
            self.executor = selection.choose(self.step, example, self._previous_execution, self.data_parallel)
        return self.executor

    def state_dict(self) -> dict[str, Any]:
        """What the step needs to resume, and the executor's name: only the same executor repeats a run's bits."""
        chosen = self._previous_execution if self.data_parallel else self.execution or self._previous_execution
        return self.step.state_dict() | {"execution": chosen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a state that `state_dict` returned; the next step chooses an executor again."""
        self.step.load_state_dict(state)
        self.executor = None  # it holds tensors of the previous state
        previous = state["execution"] if "execution" in state else state["way"]  # "way" before 0.1.0
        self._previous_execution = RENAMED.get(previous, previous)
