"""Several processes that train together: `torchrun --nproc-per-node N -m transit_cli train ...`.

Every process takes the same optimizer steps with the same weights, optimizer state and random numbers. Each computes
the gradients of its part of every micro-batch, which are summed once per optimizer step. The number of processes
therefore changes only rounding, and a run may be resumed with another number of them.
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

#: Seconds that a process waits for the others in a step. A process that dies is noticed at once by its closed
#: connections; this is for one that hangs, or whose machine is down.
STEP_TIMEOUT_S = 300
#: Days that a process waits for others that train a network each.
TASK_TIMEOUT_DAYS = 30
#: The environment variables that torchrun sets for each process.
TORCHRUN_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class ProcessGroup:
    """A single process: every operation returns its own values. The base of `Distributed`.

    Attributes:
        rank: this process's number; rank 0 writes everything.
        world_size: how many processes there are.
    """

    rank = 0
    world_size = 1

    def partition(self, samples: int) -> slice:
        """This process's part of `samples`."""
        return slice(samples * self.rank // self.world_size, samples * (self.rank + 1) // self.world_size)

    def all_reduce(self, values: Tensor) -> None:
        """Sum the values over all processes, in place."""

    def all_reduce_max(self, *numbers: int) -> list[int]:
        """The maximum of each number over all processes."""
        return list(numbers)

    def all_gather(self, values: np.ndarray) -> np.ndarray:
        """The values [N, ...] of all processes, concatenated by rank."""
        return values

    def broadcast_from_rank0(self, make: Callable[[], _T]) -> _T:
        """What `make` returns on rank 0, while the others wait."""
        return make()

    def broadcast_weights(self, network: nn.Module) -> None:
        """Load rank 0's weights and buffers into the network."""

    def gather(self, item: _T) -> list[_T]:
        """On rank 0 the items of all processes, however long they take; an empty list on the others."""
        return [item]

    def report_on_rank0(self, error: TransitError) -> TransitError:
        """An error that every process raises, marked so that only rank 0 prints it."""
        if self.rank:
            error.code = console.SECONDARY_ERROR
        return error


#: The process group of a process that was not started by torchrun.
SINGLE_PROCESS = ProcessGroup()


class PeerLostError(TransitError):
    """Another process has ended, or does not respond."""


class Distributed(ProcessGroup):
    """One of several processes that torchrun has started.

    Gradients on a GPU are exchanged by NCCL, everything else by gloo.
    """

    def __init__(self) -> None:
        import torch.distributed as dist
        from torch.distributed.distributed_c10d import _set_pg_timeout

        self.rank, self.world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        backend = "cpu:gloo,cuda:nccl" if torch.accelerator.is_available() and dist.is_nccl_available() else "gloo"
        with self._peer_errors():
            dist.init_process_group(backend, timeout=dt.timedelta(seconds=STEP_TIMEOUT_S))
            task_group: Any = dist.new_group(backend="gloo", timeout=dt.timedelta(seconds=STEP_TIMEOUT_S))
        # Only from here on: the rendezvous itself has the short timeout.
        _set_pg_timeout(dt.timedelta(days=TASK_TIMEOUT_DAYS), task_group)
        self._task_group = task_group

    def all_reduce(self, values: Tensor) -> None:
        import torch.distributed as dist

        with self._peer_errors():
            if values.device.type in {"cpu", "cuda"}:
                dist.all_reduce(values)
            else:  # gloo does not support MPS
                values.copy_(self._summed_on_host(values.cpu()))

    @staticmethod
    def _summed_on_host(values: Tensor) -> Tensor:
        import torch.distributed as dist

        dist.all_reduce(values)
        return values

    def all_reduce_max(self, *numbers: int) -> list[int]:
        import torch.distributed as dist

        values = torch.tensor(numbers, dtype=torch.int64)
        with self._peer_errors():
            dist.all_reduce(values, op=dist.ReduceOp.MAX)
        return [int(value) for value in values.tolist()]

    def all_gather(self, values: np.ndarray) -> np.ndarray:
        import torch.distributed as dist

        parts: list[Any] = [None] * self.world_size
        with self._peer_errors():
            dist.all_gather_object(parts, values)
        return np.concatenate(parts)

    def broadcast_from_rank0(self, make: Callable[[], _T]) -> _T:
        import torch.distributed as dist

        box = [make() if self.rank == 0 else None]
        with self._peer_errors():
            dist.broadcast_object_list(box, src=0, group=self._task_group)
        return box[0]  # type: ignore[return-value]

    def broadcast_weights(self, network: nn.Module) -> None:
        state = self.broadcast_from_rank0(lambda: {name: value.cpu() for name, value in network.state_dict().items()})
        network.load_state_dict(state)

    def gather(self, item: _T) -> list[_T]:
        import torch.distributed as dist

        parts: list[Any] | None = [None] * self.world_size if self.rank == 0 else None
        with self._peer_errors():
            dist.gather_object(item, parts, dst=0, group=self._task_group)
        return parts or []

    @contextmanager
    def _peer_errors(self) -> Iterator[None]:
        """Raise `PeerLostError` when a collective operation fails."""
        try:
            yield
        except RuntimeError as error:
            raise PeerLostError(
                f"another of the {self.world_size} processes has ended or does not respond"
                f" ({str(error).splitlines()[0]})",
                wanted=f"all {self.world_size} processes",
                fix="see its output, or torchrun's report",
                exit_code=ExitCode.MACHINE,
                code=console.SECONDARY_ERROR,
            ) from error


def under_torchrun() -> bool:
    """Whether torchrun has started this process as one of several."""
    return all(name in os.environ for name in TORCHRUN_VARIABLES) and os.environ["WORLD_SIZE"] != "1"


@contextmanager
def process_group() -> Iterator[ProcessGroup]:
    """The processes that torchrun has started together, or this one. Only rank 0 prints."""
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
    """Raise the error for an option that only a single process supports.

    Args:
        what: the option.
        instead: what to do instead, or first.
    """
    if under_torchrun():
        raise TransitError(
            f"{what} is given to {os.environ['WORLD_SIZE']} processes",
            wanted="one process",
            fix=instead,
            exit_code=ExitCode.USAGE,
            code="several-processes",
        )
