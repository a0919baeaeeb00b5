"""The check across two processes: the data-parallel step of `transit train` under torchrun, on the CPU.

Two child processes (`transit_cli.utils.isolation`) with torchrun's environment variables each train their part of every
micro-batch; their summed gradients are compared with those of one process that computes the full batch.
"""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch

from transit_cli.results import ExitCode, TransitError
from transit_cli.utils import isolation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

#: The number of processes, and the seconds that each may take.
WORLD_SIZE, TIMEOUT_S = 2, 300


def check_two_processes(network: str, shapes: Mapping[str, tuple[int, ...]], counts: Sequence[int]) -> dict[int, float]:
    """The largest relative difference, in float64, between the gradients of two processes and of one full batch.

    Args:
        network: its name.
        shapes: of one sample of each input.
        counts: the numbers of micro-batches.

    Returns:
        The difference by number of micro-batches.

    Raises:
        TransitError: the network cannot be trained by several processes, or they cannot communicate on this machine.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(WORLD_SIZE)}
    found: list[dict[str, Any]] = []
    with ExitStack() as stack:
        children = []
        for rank in range(WORLD_SIZE):
            child = isolation.Child("transit_cli.tuning.ddp_check", env={**os.environ, **shared, "RANK": str(rank)})
            children.append(stack.enter_context(child))
            child.send({"network": network, "shapes": shapes, "counts": counts})
        for child in children:
            end = child.follow(found.append, timeout=TIMEOUT_S)
            if end.kind != "done":
                raise _failed(end.message or end.kind)
    return {count: max(event["errors"][str(count)] for event in found) for count in counts}


def _failed(reason: str) -> TransitError:
    return TransitError(
        f"two processes could not train this network together: {reason}",
        wanted="a network without BatchNorm, and torch.distributed with gloo",
        fix="omit --ddp",
        exit_code=ExitCode.MACHINE,
        code="ddp-failed",
    )


def run_job(job: dict[str, Any], emit: Callable[[dict[str, Any]], None]) -> None:
    """One of the processes: report the differences that it finds."""
    from transit_cli.device.select import select
    from transit_cli.training.distributed import process_group
    from transit_cli.tuning.gradient_check import (
        GradientRecorder,
        compare,
        deterministic_copy,
        random_batch,
        split_batch,
    )
    from transit_cli.tuning.trials.work import network_for

    device = select("cpu")
    torch.manual_seed(0)
    shapes = {name: tuple(shape) for name, shape in job["shapes"].items()}
    network = deterministic_copy(network_for(job["network"], shapes)).double()
    batch = random_batch(shapes, device, torch.float64)
    expected = GradientRecorder(network, device).run([batch])
    with process_group() as processes:
        found = {
            count: GradientRecorder(network, device, processes=processes).run(split_batch(batch, count))
            for count in job["counts"]
        }
    emit({"errors": {str(count): compare(expected, gradients).worst for count, gradients in found.items()}})


if __name__ == "__main__":
    isolation.serve(run_job)
