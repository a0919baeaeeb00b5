"""One question, in a process of its own: `python -m transit_cli.operators.question_process`, a job on stdin,
events on stdout.

MPSGraph ends the process on shapes it cannot take, a kernel may never return, and the fallback variable is read once:
each is the reason why the questions to a device are asked from a child.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

#: More calls of different kinds than a step has.
MOST_CALLS = 100_000


def main() -> None:
    """Read the job, answer it line by line."""
    job = json.load(sys.stdin)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what anybody else prints does not mix with the answers

    def emit(event: dict[str, Any]) -> None:
        answers.write(json.dumps(event) + "\n")

    import torch

    torch.set_num_threads(job["threads"])
    torch.set_warn_always(True)  # or a fallback is told of once a process
    from transit_cli.device.cuda import without_tf32
    from transit_cli.device.select import select

    device = select(job["device"])
    without_tf32()
    if job["part"] == "database":
        from transit_cli.operators.database import check

        check(device, job["operators"], job["samples"], emit)
    else:
        _workload(job, device, emit)
    emit({"done": True})


def _workload(job: dict[str, Any], device: Any, emit: Any) -> None:
    from contextlib import nullcontext
    from dataclasses import replace

    from transit_cli.device.cpu import CpuDevice
    from transit_cli.operators.drift import drift
    from transit_cli.operators.injection import Injection
    from transit_cli.operators.replay import Replay
    from transit_cli.operators.settings import FallbackTestSettings
    from transit_cli.operators.trace import as_on_mps
    from transit_cli.operators.workload import Workload

    given: Any = {name: tuple(value) if isinstance(value, list) else value for name, value in job["settings"].items()}
    workload = Workload(FallbackTestSettings(**given), job["lengths"])
    if job["part"] == "steps":
        emit(drift(workload, device, job["precision"], workload.settings.steps))
        return
    workload = replace(workload, settings=workload.settings.replace(precision=job["precision"]))
    injection = Injection(workload.settings.inject)
    skip = frozenset(job["skip"])
    if "only" in job:
        skip = frozenset(range(MOST_CALLS)) - {job["only"]}
    replay = Replay(device, emit, skip, injection)
    with as_on_mps() if device.kind == "mps" else nullcontext():
        host = CpuDevice()
        runner = workload.runner_on(host)
        batch = workload.batch(host, workload.settings.batch_size)
        runner.step.network.train()
        with replay:
            runner.gradients([batch])
            replay.updating = True
            runner.step.update()
    emit({"counts": [[call.operator, count] for call, count in replay.counts.items()], "planted": injection.planted})


if __name__ == "__main__":
    main()
