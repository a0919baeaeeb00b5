"""The proof across two processes: DistributedDataParallel (gloo, CPU), each with its part of every micro-batch.

`python -m transit_cli.tuning.ddp_check RANK FILE` is one of the two; they meet at FILE. Gradients travel once
an optimizer step, with the last micro-batch, and each process counts by its number of samples.
"""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from transit_cli.results import ExitCode, TransitError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch.distributed import GradBucket

WORLD = 2
#: Seconds that the two processes may take.
PATIENCE = 300


def prove(name: str, shapes: Mapping[str, tuple[int, ...]], parts: int) -> float:
    """The largest relative difference, in float64, between the gradients of two processes and of one full batch.

    Args:
        name: the network.
        shapes: of one sample of each input.
        parts: micro-batches k of each process.

    Raises:
        TransitError: the processes cannot talk to each other on this machine.
    """
    with tempfile.TemporaryDirectory() as folder:
        meeting = Path(folder, "meeting")
        Path(folder, "work.json").write_text(json.dumps([name, shapes, parts]))
        command = [sys.executable, "-m", "transit_cli.tuning.ddp_check"]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        ranks = [subprocess.Popen([*command, str(rank), str(meeting)], **pipes) for rank in range(WORLD)]
        try:
            ended = [rank.communicate(timeout=PATIENCE) for rank in ranks]
        finally:
            for rank in ranks:
                rank.kill()
                rank.wait()
    if any(rank.returncode for rank in ranks):
        words = next(line for _, errors in ended for line in reversed(errors.splitlines()) if line.strip())
        raise TransitError(
            f"two processes could not train together: {words}",
            wanted="torch.distributed with gloo",
            fix="leave --ddp away",
            exit_code=ExitCode.MACHINE,
            code="ddp-failed",
        )
    return max(float(output) for output, _ in ended)


def main(rank: int, meeting: Path) -> float:
    """One of the processes; the largest relative difference that it sees."""
    import torch.distributed as dist

    from transit_cli.device.select import select
    from transit_cli.tuning.gradient_check import Recorder, compare, deterministic_copy, sample, split
    from transit_cli.tuning.work import network_for

    name, shapes, parts = json.loads(meeting.with_name("work.json").read_text())
    device = select("cpu")
    torch.manual_seed(0)
    network = deterministic_copy(network_for(name, {key: tuple(shape) for key, shape in shapes.items()})).double()
    whole = sample(shapes, device, torch.float64)
    expected = Recorder(network, device).take([whole])
    patience = dt.timedelta(seconds=PATIENCE)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=WORLD, timeout=patience)
    mine = split(whole, WORLD)[rank]
    micro_batches = split(mine, parts)
    recorder = Recorder(network, device)
    recorder.step.network = Synchronised(recorder.network, len(micro_batches), len(mine) / len(whole))
    found = recorder.take(micro_batches)
    dist.destroy_process_group()
    return compare(expected, found).worst


class Synchronised(nn.Module):
    """A network in DistributedDataParallel that exchanges gradients with every `parts`-th backward pass alone.

    Args:
        network: the network, with the same weights in each process.
        parts: micro-batches of an optimizer step.
        share: this process's share of all samples; gradients are summed with these weights, not averaged, so that
            processes with different numbers of samples are exact too.
    """

    def __init__(self, network: nn.Module, parts: int, share: float) -> None:
        super().__init__()
        self._network = nn.parallel.DistributedDataParallel(network)
        self._network.register_comm_hook(share, _weighted_sum)
        self._parts, self._calls = parts, 0

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """Logits [B]."""
        self._calls += 1
        self._network.require_backward_grad_sync = self._calls % self._parts == 0
        return self._network(inputs)


def _weighted_sum(share: float, bucket: GradBucket) -> torch.futures.Future[Tensor]:
    """The bucket's gradients over all processes, each counted by its share of the samples."""
    import torch.distributed as dist

    work = dist.all_reduce(bucket.buffer().mul_(share), async_op=True)
    return work.get_future().then(_value)


_weighted_sum.__annotations__.clear()  # torch refuses a hook whose annotations are text, as they are in this file


def _value(done: torch.futures.Future[list[Tensor]]) -> Tensor:
    return done.value()[0]


if __name__ == "__main__":
    sys.stdout.write(f"{main(int(sys.argv[1]), Path(sys.argv[2]))}\n")
