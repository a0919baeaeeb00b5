"""Several processes that train together: `torchrun --nproc-per-node N -m transit_cli train ...`.

Every process goes through the same optimizer steps with the same weights, optimizer state and random numbers. Each
computes the gradients of its own part of every micro-batch; what is exchanged is their sum, once an optimizer step. So
how many processes there are changes nothing but rounding, and a run may go on with another number of them.
"""

from __future__ import annotations

import datetime as dt
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from transit_cli import console
from transit_cli.results import ExitCode, TransitError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, nn

_T = TypeVar("_T")

#: Seconds that a process waits for the others in a step. A process that dies is noticed at once, by its connections;
#: this is for one that hangs, or whose machine has gone.
PATIENCE = 300
#: Days that a process waits for others that train a network each.
LONG = 30
#: What a launcher tells each process.
VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class ProcessGroup:
    """One process, which needs nobody; the base of `Distributed`.

    Attributes:
        rank: this process's number; process 0 writes everything.
        world_size: how many processes there are.
    """

    rank = 0
    world_size = 1

    def partition(self, samples: int) -> slice:
        """This process's part of `samples`."""
        return slice(samples * self.rank // self.world_size, samples * (self.rank + 1) // self.world_size)

    def all_reduce(self, values: Tensor) -> None:
        """Put the sum over all processes into the values of each."""

    def all_reduce_max(self, *numbers: int) -> list[int]:
        """The greatest of each number over all processes."""
        return list(numbers)

    def all_gather(self, values: np.ndarray) -> np.ndarray:
        """The values [N, ...] of all processes, in their order: [N of all, ...]."""
        return values

    def broadcast_from_rank0(self, make: Callable[[], _T]) -> _T:
        """What process 0 makes, while the others wait."""
        return make()

    def broadcast_weights(self, network: nn.Module) -> None:
        """Give the network process 0's weights and buffers."""

    def gather(self, item: _T) -> list[_T]:
        """Each process's item in process 0, however long the others take; nothing elsewhere."""
        return [item]

    def report_on_rank0(self, error: TransitError) -> TransitError:
        """An error that every process meets by itself, made such that process 0 alone says it."""
        if self.rank:
            error.code = console.SECONDARY_ERROR
        return error


#: This process by itself.
SINGLE_PROCESS = ProcessGroup()


class PeerLostError(TransitError):
    """Another process has ended, or does not answer."""


class Distributed(ProcessGroup):
    """This process as one of several that a launcher has started.

    Gradients on a GPU travel by NCCL, everything else by gloo.
    """

    def __init__(self) -> None:
        import torch.distributed as dist
        from torch.distributed.distributed_c10d import _set_pg_timeout

        self.rank, self.world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        backend = "cpu:gloo,cuda:nccl" if torch.accelerator.is_available() and dist.is_nccl_available() else "gloo"
        with self._answered():
            dist.init_process_group(backend, timeout=dt.timedelta(seconds=PATIENCE))
            patient: Any = dist.new_group(backend="gloo", timeout=dt.timedelta(seconds=PATIENCE))
        # Long from here on: to meet, as to step, no process may take that long.
        _set_pg_timeout(dt.timedelta(days=LONG), patient)
        self._patient = patient

    def all_reduce(self, values: Tensor) -> None:
        """See `ProcessGroup.all_reduce`."""
        import torch.distributed as dist

        with self._answered():
            if values.device.type in {"cpu", "cuda"}:
                dist.all_reduce(values)
            else:  # gloo knows no MPS
                values.copy_(self._summed_on_host(values.cpu()))

    @staticmethod
    def _summed_on_host(values: Tensor) -> Tensor:
        import torch.distributed as dist

        dist.all_reduce(values)
        return values

    def all_reduce_max(self, *numbers: int) -> list[int]:
        """See `ProcessGroup.all_reduce_max`."""
        import torch.distributed as dist

        values = torch.tensor(numbers, dtype=torch.int64)
        with self._answered():
            dist.all_reduce(values, op=dist.ReduceOp.MAX)
        return [int(value) for value in values.tolist()]

    def all_gather(self, values: np.ndarray) -> np.ndarray:
        """See `ProcessGroup.all_gather`."""
        import torch.distributed as dist

        parts: list[Any] = [None] * self.world_size
        with self._answered():
            dist.all_gather_object(parts, values)
        return np.concatenate(parts)

    def broadcast_from_rank0(self, make: Callable[[], _T]) -> _T:
        """See `ProcessGroup.broadcast_from_rank0`."""
        import torch.distributed as dist

        box = [make() if self.rank == 0 else None]
        with self._answered():
            dist.broadcast_object_list(box, src=0, group=self._patient)
        return box[0]  # type: ignore[return-value]

    def broadcast_weights(self, network: nn.Module) -> None:
        """See `ProcessGroup.broadcast_weights`."""
        state = self.broadcast_from_rank0(lambda: {name: value.cpu() for name, value in network.state_dict().items()})
        network.load_state_dict(state)

    def gather(self, item: _T) -> list[_T]:
        """See `ProcessGroup.gather`."""
        import torch.distributed as dist

        parts: list[Any] | None = [None] * self.world_size if self.rank == 0 else None
        with self._answered():
            dist.gather_object(item, parts, dst=0, group=self._patient)
        return parts or []

    @contextmanager
    def _answered(self) -> Iterator[None]:
        """Say in our words that another process has not taken part."""
        try:
            yield
        except RuntimeError as error:
            raise PeerLostError(
                f"another of {self.world_size} processes has ended or does not answer ({str(error).splitlines()[0]})",
                wanted=f"all {self.world_size} of them",
                fix="see what it said, or torchrun says of it",
                exit_code=ExitCode.MACHINE,
                code=console.SECONDARY_ERROR,
            ) from error


def under_torchrun() -> bool:
    """Whether a launcher has started this process as one of several."""
    return all(name in os.environ for name in VARIABLES) and os.environ["WORLD_SIZE"] != "1"


@contextmanager
def process_group() -> Iterator[ProcessGroup]:
    """All processes that were launched together, or this one by itself. Of several, process 0 alone shows anything."""
    if not under_torchrun():
        yield SINGLE_PROCESS
        return
    import torch.distributed as dist

    processes = Distributed()
    if processes.rank:
        console.mute(f"process {processes.rank}")
    try:
        yield processes
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def require_single_process(what: str, instead: str) -> None:
    """Raise the error for something that one process does by itself.

    Args:
        what: it.
        instead: what to do first, or else.
    """
    if under_torchrun():
        raise TransitError(
            f"{what} is given to {os.environ['WORLD_SIZE']} processes",
            wanted="one process",
            fix=instead,
            exit_code=ExitCode.USAGE,
            code="several-processes",
        )
