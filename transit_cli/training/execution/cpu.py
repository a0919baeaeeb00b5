"""Executors of the CPU that change the memory layout of convolutions, and the number of threads."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from transit_cli.model.acceleration import layout
from transit_cli.training.execution.base import Executor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor, nn

    from transit_cli.training.batch import Batch
    from transit_cli.training.execution.data_parallel import DataParallel
    from transit_cli.training.step import OptimizerStep


class ChannelsLast(Executor):
    """Each Conv1d as a channels-last Conv2d of height 1 (`model.acceleration.layout`), on all threads."""

    name = "channels-last"

    def __init__(self, step: OptimizerStep, data_parallel: DataParallel | None = None) -> None:
        super().__init__(step, data_parallel)
        self._forwards = self._replacements(step.network)

    @staticmethod
    def _replacements(network: nn.Module) -> dict[nn.Module, Callable[..., Any]]:
        return layout.channels_last(network)

    def backward(self, batch: Batch, weight: float) -> Tensor:
        with layout.replaced(self._forwards):
            return super().backward(batch, weight)


class OneDnn(ChannelsLast):
    """Sequences of convolutions, poolings and ReLUs in oneDNN's blocked layout, on all threads."""

    name = "onednn"

    @staticmethod
    def _replacements(network: nn.Module) -> dict[nn.Module, Callable[..., Any]]:
        return layout.blocked(network)


class SingleThread(OneDnn):
    """As `OneDnn` on one thread: on a busy machine, threads mostly wait for each other."""

    name = "single-thread"

    def run(self, micro_batches: Sequence[Batch], *, augmented: bool = False) -> Tensor:
        with one_thread():
            return super().run(micro_batches, augmented=augmented)

    def gradients(self, micro_batches: Sequence[Batch]) -> Tensor:
        with one_thread():
            return super().gradients(micro_batches)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
