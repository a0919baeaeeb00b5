"""The check across two processes: the data-parallel step of `transit train` under torchrun, on the CPU.

`python -m transit_cli.tuning.ddp_check` is one of them, with torchrun's environment variables and a job as JSON on
stdin. Each trains its part of every micro-batch; their summed gradients are compared with those of one process that
computes the full batch.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import torch

from transit_cli.results import ExitCode, TransitError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: The number of processes, and the seconds that they may take.
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
    job = json.dumps({"network": network, "shapes": shapes, "counts": counts})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    ranks = [_start(address | {"RANK": str(rank), "WORLD_SIZE": str(WORLD_SIZE)}, job) for rank in range(WORLD_SIZE)]
    try:
        output = [rank.communicate(timeout=TIMEOUT_S) for rank in ranks]
    except subprocess.TimeoutExpired:
        raise _failed(f"no result after {TIMEOUT_S} s") from None
    finally:
        for rank in ranks:
            rank.kill()
            rank.communicate()
    if any(rank.returncode for rank in ranks):
        raise _failed(next(line for _, errors in output for line in reversed(errors.splitlines()) if line.strip()))
    found = [json.loads(line) for line, _ in output]
    return {count: max(errors[str(count)] for errors in found) for count in counts}


def _start(environment: Mapping[str, str], job: str) -> subprocess.Popen[str]:
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    command = [sys.executable, "-m", "transit_cli.tuning.ddp_check"]
    process = subprocess.Popen(command, env={**os.environ, **environment}, text=True, **pipes)
    assert process.stdin is not None
    process.stdin.write(job + "\n")
    process.stdin.flush()
    return process


def _failed(reason: str) -> TransitError:
    return TransitError(
        f"two processes could not train this network together: {reason}",
        wanted="a network without BatchNorm, and torch.distributed with gloo",
        fix="omit --ddp",
        exit_code=ExitCode.MACHINE,
        code="ddp-failed",
    )


def main(job: Mapping[str, Any]) -> dict[int, float]:
    """Run one of the processes; returns the differences that it sees."""
    from transit_cli.device.select import select
    from transit_cli.training.distributed import process_group
    from transit_cli.tuning.gradient_check import (
        GradientRecorder,
        compare,
        deterministic_copy,
        random_batch,
        split_batch,
    )
    from transit_cli.tuning.work import network_for

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
    return {count: compare(expected, gradients).worst for count, gradients in found.items()}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(json.loads(sys.stdin.readline()))) + "\n")
