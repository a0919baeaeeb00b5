"""Which way a step runs: the one that was asked for, the device's only good one, or the fastest by a short timing.

Not timed, but only checked, are a small batch, for which `single` was at least as fast wherever it was measured, and
the steps of several processes, whose timings would have to agree: `fused` then (docs/performance.md).
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import psutil
import torch

from transit_cli import console
from transit_cli.measurements import recall, remember
from transit_cli.results import ExitCode, TransitError
from transit_cli.training.execution.base import ChannelsLast, Executor, OneDnn, SingleThread
from transit_cli.training.execution.cuda_graph import CudaGraph, TritonGraph
from transit_cli.training.execution.replicas import LEAST_SAMPLES, Replicas, UnsupportedExecution

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from transit_cli.device.base import CapturingDevice
    from transit_cli.training.step import Batch, Step

#: Rounds in which the ways take turns, after one that only warms up; the best round of each counts.
ROUNDS = 3
#: A batch of fewer numbers than this is not worth timing: a few milliseconds, mostly PyTorch's own.
SMALL_BATCH = 8192
#: The most samples to choose with on a CPU and on a GPU: more say nothing new, a large batch would run sixteen times
#: before it trains, and ways that are timed in turn hold their memory at once.
TIMED_SAMPLES, TIMED_SAMPLES_GPU = 64, 128
#: Another way is taken only where it needs less than this share of the default's time: ties go to what everybody runs.
WORTH_IT = 0.95
#: On a busy machine, where a timing is half chance, one thread is the default, and this the share: it does not wait for
#: others that have lost their processor.
WORTH_IT_BUSY = 0.8
#: Share of the machine's processors, in percent, that others may use where a timing is to be trusted another day.
QUIET = 15.0
#: The ways of a device that captures whole steps, the default first.
CAPTURES = {CudaGraph.name: CudaGraph, TritonGraph.name: TritonGraph}
#: Largest difference of a way's gradients from the default's, in norm. On a CPU, rounding gives 1e-6, and 1e-4 where a
#: maximum over nearly equal bins falls on another bin; TF32 gives 7e-3 and bfloat16 7e-2 (two-branch on an H100). A
#: network that the way changes gives far more.
TOLERANCE, TOLERANCE_ROUNDED = 1e-2, 0.3


def choose(step: Step, batch: Batch, preferred: str = "") -> Executor:
    """The way to run a step.

    Args:
        step: the step; its weights, gradients and random numbers are left as they were.
        batch: a micro-batch of the size that will be trained with.
        preferred: the way of the checkpoint that is gone on from, taken again where it can be: bits repeat only then.

    Raises:
        TransitError: the way asked for in the settings cannot be run here.
    """
    wanted = step.settings.execution
    if wanted != "auto":
        return _make(wanted, step, batch)
    names = candidates(step, batch)
    if preferred in names:
        names = [preferred]
    if len(names) > 1 and step.processes.count == 1 and _worth_timing(batch):
        names = [_fastest(step, _sample(batch), names)]
    elif len(names) > 1:
        names = [[*equivalent_executors(step, _sample(batch), names)][-1]]
    try:
        return _make(names[0], step, batch)
    except TransitError:
        return Executor(step)


def candidates(step: Step, batch: Batch) -> list[str]:
    """The ways that may be worth it on the step's device, the default first; where nothing is timed, the best last."""
    device = step.device
    if device.can_capture and not step.scaler.is_enabled():
        return list(CAPTURES)
    if device.kind != "cpu":
        return [Executor.name]
    if step.processes.count > 1:  # each has a core, and a timing would have to be everybody's
        return [OneDnn.name if _worth_timing(batch) else Executor.name]
    if not _worth_timing(batch):
        return [Executor.name, SingleThread.name] if torch.get_num_threads() > 1 else [Executor.name]
    names = [Executor.name, ChannelsLast.name, OneDnn.name]
    if torch.get_num_threads() > 1:
        names.append(SingleThread.name)
        if len(batch) >= 2 * LEAST_SAMPLES:
            names.append(Replicas.name)
    return names


def _sample(batch: Batch) -> Batch:
    """The part of a batch to choose with: on a CPU a power of two, so that batches of about one size run one way."""
    if batch.targets.device.type != "cpu":
        return batch.rows(slice(0, TIMED_SAMPLES_GPU))
    return batch.rows(slice(0, min(1 << (len(batch).bit_length() - 1), TIMED_SAMPLES)))


def _worth_timing(batch: Batch) -> bool:
    return sum(values.numel() for values in batch.inputs.values()) >= SMALL_BATCH


def _make(name: str, step: Step, batch: Batch) -> Executor:
    reason = ""
    if name in CAPTURES:
        if not step.device.can_capture:
            reason = f"{step.device.kind} has no graphs of whole steps"
        elif step.scaler.is_enabled():
            reason = "the gradient scaler of fp16 has to be asked after every step"
        else:
            try:
                return CAPTURES[name](step, cast("CapturingDevice", step.device))
            except UnsupportedExecution as unsuitable:
                reason = str(unsuitable)
    elif name == Executor.name:
        return Executor(step)
    elif step.device.kind != "cpu":
        reason = f"it is a way of the CPU, and this is {step.device.kind}"
    elif name == Replicas.name and step.processes.count > 1:
        reason = "with several processes, each has a core"
    elif name == Replicas.name:
        try:
            return Replicas(step, batch)
        except UnsupportedExecution as unsuitable:
            reason = str(unsuitable)
    else:
        return {kind.name: kind for kind in (ChannelsLast, OneDnn, SingleThread)}[name](step)
    raise TransitError(
        f"the step cannot run the way {name!r}: {reason}",
        wanted="auto, or a way that this device and network have",
        fix="omit --execution",
        exit_code=ExitCode.MACHINE,
        code="execution-unsupported",
    )


def _fastest(step: Step, batch: Batch, names: list[str]) -> str:
    """The fastest way by a timing in place, or by one that was remembered from a quiet machine."""
    key = _key(step, batch)
    entry = recall("executions", key)
    quiet = psutil.cpu_percent(interval=0.05) <= QUIET
    if entry and entry.get("execution") in names and (entry.get("quiet") or not quiet):
        return entry["execution"]
    seconds = benchmark(step, batch, names)
    busy = not quiet and SingleThread.name in seconds
    default, worth = (SingleThread.name, WORTH_IT_BUSY) if busy else (next(iter(seconds)), WORTH_IT)
    best = min(seconds, key=lambda name: seconds[name])
    execution = best if seconds[best] < worth * seconds[default] else default
    remember("executions", key, {"execution": execution, "quiet": quiet, "seconds": seconds})
    shown = ", ".join(f"{name} {value * 1000:.1f} ms" for name, value in seconds.items())
    console.note(f"fastest way to run the step: {execution} (forward and backward: {shown})")
    return execution


def _key(step: Step, batch: Batch) -> str:
    """Everything that a timing depends on."""
    network = type(step.network)
    shapes = " ".join(f"{name}:{'x'.join(map(str, values.shape))}" for name, values in sorted(batch.inputs.items()))
    size = sum(parameter.numel() for parameter in step.parameters)
    machine = f"{step.device.facts.name} {torch.get_num_threads()} threads torch {torch.__version__}"
    return f"{network.__module__}.{network.__qualname__} {size} {shapes} {step.precision} {machine}"


def benchmark(step: Step, batch: Batch, names: list[str]) -> dict[str, float]:
    """Seconds of forward and backward in each way that agrees, the best of a few rounds that take turns."""
    executors = equivalent_executors(step, batch, names)
    seconds: dict[str, float] = {}
    with preserve_state(step):
        runs = {name: executor.benchmark_fn(batch) for name, executor in executors.items()}
        for _ in range(ROUNDS):
            for name, run in runs.items():
                step.device.synchronize()
                begin = time.perf_counter()
                run()
                step.device.synchronize()
                spent = time.perf_counter() - begin
                seconds[name] = min(spent, seconds.get(name, spent))
                step.optimizer.zero_grad(set_to_none=True)
    return seconds


def equivalent_executors(step: Step, batch: Batch, names: list[str]) -> dict[str, Executor]:
    """The first of the ways, and those of the others that can run this network and give the same gradients.

    Each process finds out by itself, with the same batch and weights, and so the same.
    """
    executors: dict[str, Executor] = {}
    data_parallel, step.data_parallel = step.data_parallel, None
    expected: Tensor | None = None
    exact = step.device.kind == "cpu" and step.precision == "fp32"
    tolerance = TOLERANCE if exact else TOLERANCE_ROUNDED
    try:
        with preserve_state(step) as state:
            for name in names:
                try:
                    executor = _make(name, step, batch)
                    found = _gradients(step, executor, batch, state)
                except (TransitError, RuntimeError) as error:
                    if expected is None or step.device.is_out_of_memory(error):
                        raise
                    continue
                if expected is None:
                    expected = found
                elif not (found - expected).norm() <= tolerance * expected.norm():
                    continue
                executors[name] = executor
    finally:
        step.data_parallel = data_parallel
    return executors


@contextmanager
def preserve_state(step: Step) -> Iterator[Tensor]:
    """Gives the state of the random numbers; puts it back at the end, and the network's buffers."""
    state = step.device.rng_state()
    buffers = [(buffer, buffer.clone()) for buffer in step.network.buffers()]
    try:
        yield state
    finally:
        step.device.set_rng_state(state)
        for buffer, value in buffers:
            buffer.copy_(value)


def _gradients(step: Step, executor: Executor, batch: Batch, state: Tensor) -> Tensor:
    """A batch's gradients as one vector, with the same random numbers each time."""
    step.device.set_rng_state(state)
    executor.gradients([batch])
    gradients = torch.cat([p.grad.flatten() for p in step.parameters if p.grad is not None])
    step.optimizer.zero_grad(set_to_none=True)
    return gradients
