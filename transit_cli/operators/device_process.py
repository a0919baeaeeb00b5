"""Tests of a device in a child process (`transit_cli.utils.isolation`).

MPSGraph aborts the process on shapes it cannot take, a kernel may never return, and PYTORCH_ENABLE_MPS_FALLBACK is read
only once per process.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from transit_cli.device.environment import FALLBACK
from transit_cli.utils import isolation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Event = dict[str, Any]
    Emit = Callable[[Event], None]

#: More than the kinds of calls in any step.
MAX_CALLS = 100_000


def run_in_child(
    job: Mapping[str, Any], on_event: Callable[[Event], object], *, timeout: float, fallback: bool = True
) -> isolation.ChildExit:
    """Run a job in a child process, with MPS's fallback to the CPU on or off.

    Args:
        job: what `run_job` takes.
        on_event: called with each event.
        timeout: seconds without an event after which the child is killed.
        fallback: whether operators that MPS lacks run on the CPU.
    """
    env = os.environ | {FALLBACK: str(int(fallback))}
    return isolation.run_child(__name__, job, on_event, timeout=timeout, env=env)


def run_job(job: Event, emit: Emit) -> None:
    """Run a job and report its events.

    Args:
        job: "part" ("operators", "steps" or "database"), "device", "threads", and what that part takes.
        emit: sends an event.
    """
    import torch

    torch.set_num_threads(job["threads"])
    torch.set_warn_always(True)  # by default a fallback is reported once per process
    from transit_cli.device.cuda import without_tf32
    from transit_cli.device.select import select

    device = select(job["device"])
    without_tf32()
    if job["part"] == "database":
        from transit_cli.operators.op_database.database import check

        check(device, job["operators"], job["samples"], emit)
    else:
        _check_operators(job, device, emit)


def _check_operators(job: Event, device: Any, emit: Emit) -> None:
    from dataclasses import replace

    from transit_cli.operators.drift import drift
    from transit_cli.operators.replay import replay_step
    from transit_cli.operators.settings import FallbackTestSettings
    from transit_cli.operators.step_factory import StepFactory

    given: Any = {name: tuple(value) if isinstance(value, list) else value for name, value in job["settings"].items()}
    settings = FallbackTestSettings(**given)
    factory = StepFactory(settings, job["lengths"])
    if job["part"] == "steps":
        emit(drift(factory, device, job["precision"], settings.steps))
        return
    factory = replace(factory, settings=settings.replace(precision=job["precision"]))
    skip = frozenset(job["skip"])
    if "only" in job:
        skip = frozenset(range(MAX_CALLS)) - {job["only"]}
    counts = replay_step(factory, device, emit, skip)
    emit({"counts": [[call.operator, count] for call, count in counts.items()]})


if __name__ == "__main__":
    isolation.serve(run_job)
