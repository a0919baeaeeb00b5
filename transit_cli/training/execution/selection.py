"""Chooses the executor of a step: the one asked for, the device's only good one, or the fastest by a short timing.

Not timed but only checked for equal gradients are small batches, for which `single-thread` was at least as fast
wherever it was measured, and the steps of several processes, whose timings would have to agree: they take `triton`
(docs/performance.md).
"""

from __future__ import annotations

import time
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import psutil
import torch

from transit_cli import console
from transit_cli.device.host import QUIET
from transit_cli.results import ExitCode, TransitError
from transit_cli.training.execution.base import Executor
from transit_cli.training.execution.cpu import ChannelsLast, OneDnn, SingleThread, one_thread
from transit_cli.training.execution.cuda_graph import CudaGraph, TritonGraph
from transit_cli.training.execution.errors import UnsupportedExecution
from transit_cli.training.execution.metal import METAL, Metal
from transit_cli.training.execution.replicas import MIN_SAMPLES, Replicas
from transit_cli.utils.cache import MeasurementCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from transit_cli.training.batch import Batch
    from transit_cli.training.execution.data_parallel import DataParallel
    from transit_cli.training.step import OptimizerStep

#: A batch of fewer values than this is not worth timing: a few milliseconds, mostly PyTorch's own overhead.
SMALL_BATCH = 8192
#: The most samples to choose with on a CPU and on a GPU: more would not change the choice, a large batch would run
#: sixteen times before it trains, and executors that are timed in turn hold their memory at the same time.
TIMED_SAMPLES, TIMED_SAMPLES_GPU = 64, 128
#: Executors are timed in turn, in three rounds after one that warms up and checks the gradients; the best round of each
#: counts. Those that need more than so many times the least are not timed again after the first round, and the second.
CONTENDING = (1.4, 1.15)
#: Another executor is taken only if it needs less than this share of the default's time: prefer the default on ties.
WORTH_IT = 0.95
#: On a busy machine, where timings are noisy, one thread is the default and this the share: it never waits for threads
#: that have lost their core.
WORTH_IT_BUSY = 0.8
#: The executors of a device that captures whole steps, the default first.
CAPTURING: dict[str, type[CudaGraph]] = {kind.name: kind for kind in (CudaGraph, TritonGraph)}
#: The executors of a CPU that run any network.
CPU: dict[str, type[Executor]] = {kind.name: kind for kind in (ChannelsLast, OneDnn, SingleThread)}
#: Largest difference of an executor's gradients from the default's, in norm. On a CPU, rounding gives 1e-6, and 1e-4
#: where a maximum over nearly equal bins falls on another bin; TF32 gives 7e-3 and bfloat16 7e-2 (two-branch on an
#: H100). A network that the executor changes gives far more.
GRADIENT_TOLERANCE, ROUNDED_GRADIENT_TOLERANCE = 1e-2, 0.3

_timings = MeasurementCache("executions")


def choose(
    step: OptimizerStep, batch: Batch, preferred: str = "", data_parallel: DataParallel | None = None
) -> Executor:
    """Choose how to run a step.

    Args:
        step: the step; its weights, gradients and random state are preserved.
        batch: a micro-batch of the size that will be trained with.
        preferred: the execution of the checkpoint that is resumed, taken again if possible: only then do bits repeat.
        data_parallel: combines the gradients of several processes.

    Raises:
        TransitError: the execution asked for in the settings is not possible here.
    """
    if step.settings.execution != "auto":
        return _requested(step, batch, data_parallel)
    names = candidates(step, batch, distributed=data_parallel is not None)
    compare = preferred in METAL  # with eager again: the Mac or its system may be another
    if preferred in names:
        names = [names[0], preferred] if compare else [preferred]
    worth_timing = _worth_timing(batch) or Metal.name in names  # it is never taken without
    if len(names) > 1 and data_parallel is None and worth_timing and not compare:
        names = [_fastest(step, _sample(batch), names)]
    elif len(names) > 1:  # deterministic across ranks: same batch, same weights
        names = [[*equivalent_executors(step, _sample(batch), names)][-1]]
    try:
        return _make(names[0], step, batch, data_parallel)
    except UnsupportedExecution as unsupported:
        _tell_unused(names[0], str(unsupported))
        return Executor(step, data_parallel)


def _requested(step: OptimizerStep, batch: Batch, data_parallel: DataParallel | None) -> Executor:
    name = step.settings.execution
    try:
        return _make(name, step, batch, data_parallel)
    except UnsupportedExecution as unsupported:
        raise TransitError(
            f"the execution {name!r} is not possible: {unsupported}",
            wanted="auto, or an execution that this device and network support",
            fix="omit --execution",
            exit_code=ExitCode.MACHINE,
            code="execution-unsupported",
        ) from None


def candidates(step: OptimizerStep, batch: Batch, *, distributed: bool = False) -> list[str]:
    """The executions that may pay on the step's device, the default first; if nothing is timed, the best last."""
    device = step.device
    if device.can_capture and not step.scaler.is_enabled():
        return list(CAPTURING)
    if device.kind != "cpu":
        return [Executor.name, *METAL] if device.kind == "mps" else [Executor.name]
    if distributed:  # each process has a core, and all would have to agree on a timing
        return [OneDnn.name if _worth_timing(batch) else Executor.name]
    if not _worth_timing(batch):
        return [Executor.name, SingleThread.name] if torch.get_num_threads() > 1 else [Executor.name]
    names = [Executor.name, ChannelsLast.name, OneDnn.name]
    if torch.get_num_threads() > 1:
        names.append(SingleThread.name)
        if len(batch) >= 2 * MIN_SAMPLES:
            names.append(Replicas.name)
    return names


def _sample(batch: Batch) -> Batch:
    """The samples to choose with: on a CPU a power of two, so that batches of similar size share a measurement."""
    if batch.targets.device.type != "cpu":
        return batch.rows(slice(0, TIMED_SAMPLES_GPU))
    return batch.rows(slice(0, min(1 << (len(batch).bit_length() - 1), TIMED_SAMPLES)))


def _worth_timing(batch: Batch) -> bool:
    return sum(values.numel() for values in batch.inputs.values()) >= SMALL_BATCH


def _make(name: str, step: OptimizerStep, batch: Batch, data_parallel: DataParallel | None = None) -> Executor:
    """The executor of this name.

    Raises:
        UnsupportedExecution: the device or the network cannot be run with it.
    """
    if name == Executor.name:
        return Executor(step, data_parallel)
    if name in CAPTURING:
        return CAPTURING[name](step, data_parallel)
    if name in METAL:
        return METAL[name](step, data_parallel)
    if step.device.kind != "cpu":
        raise UnsupportedExecution(f"it needs a CPU, and this is {step.device.kind}")
    if name in CPU:
        return CPU[name](step, data_parallel)
    if data_parallel:
        raise UnsupportedExecution("with several processes, each has one core")
    return Replicas(step, batch)


def _fastest(step: OptimizerStep, batch: Batch, names: list[str]) -> str:
    """The fastest execution by a timing now, or by a cached one from a quiet machine."""
    key = _key(step, batch)
    entry = _timings.get(key)
    quiet = psutil.cpu_percent(interval=0.05) <= QUIET
    if entry and entry.get("execution") in names and (entry.get("quiet") or not quiet):
        return entry["execution"]
    busy = not quiet and SingleThread.name in names
    if busy:  # the others wait for threads that have lost their core
        names = [name for name in names if name in {Executor.name, SingleThread.name, Replicas.name}]
    seconds = benchmark(step, batch, names, first=not busy)
    busy = busy and SingleThread.name in seconds
    first = TritonGraph.name if TritonGraph.name in seconds else next(iter(seconds))  # a GPU may be shared and busy
    default, worth = (SingleThread.name, WORTH_IT_BUSY) if busy else (first, WORTH_IT)
    best = min(seconds, key=lambda name: seconds[name])
    execution = best if seconds[best] < worth * seconds[default] else default
    _timings.put(key, {"execution": execution, "quiet": quiet, "seconds": seconds})
    shown = ", ".join(f"{name} {value * 1000:.1f} ms" for name, value in seconds.items())
    console.note(f"fastest execution of the step: {execution} (forward and backward: {shown})")
    return execution


def _key(step: OptimizerStep, batch: Batch) -> str:
    """Everything that a timing depends on."""
    network = type(step.network)
    shapes = " ".join(f"{name}:{'x'.join(map(str, values.shape))}" for name, values in sorted(batch.inputs.items()))
    size = sum(parameter.numel() for parameter in step.parameters)
    machine = f"{step.device.facts.name} {torch.get_num_threads()} threads torch {torch.__version__}"
    return f"{network.__module__}.{network.__qualname__} {size} {shapes} {step.precision} {machine}"


def benchmark(step: OptimizerStep, batch: Batch, names: list[str], *, first: bool = True) -> dict[str, float]:
    """Seconds of forward and backward with each equivalent executor, the best of a few rounds taken in turn.

    Args:
        step: the step.
        batch: the samples to time with.
        names: the executors, of which the first gives the gradients that the others must give.
        first: time the first one too, even if there are others.
    """
    executors = equivalent_executors(step, batch, names)
    if not first and len(executors) > 1:
        del executors[names[0]]
    seconds: dict[str, float] = {}
    with preserve_state(step):
        runs = {name: executor.benchmark_fn(batch) for name, executor in executors.items()}
        for contending in (*CONTENDING, 0.0):
            for name in list(runs):
                try:
                    spent = _seconds(step, runs[name])
                except RuntimeError as error:
                    if name == names[0] or len(runs) == 1 or step.device.is_out_of_memory(error):
                        raise
                    _tell_unused(name, str(error))
                    del runs[name]
                    seconds.pop(name, None)
                    continue
                seconds[name] = min(spent, seconds.get(name, spent))
            least = min(seconds[name] for name in runs)
            runs = {name: run for name, run in runs.items() if seconds[name] <= contending * least}
    return seconds


def _seconds(step: OptimizerStep, run: Callable[[], object]) -> float:
    step.device.synchronize()
    begin = time.perf_counter()
    try:
        run()
        step.device.synchronize()
        return time.perf_counter() - begin
    finally:
        step.optimizer.zero_grad(set_to_none=True)


def equivalent_executors(step: OptimizerStep, batch: Batch, names: list[str]) -> dict[str, Executor]:
    """The first of the executors, and those of the others that run this network and give the same gradients.

    They compute in this process only.
    """
    executors: dict[str, Executor] = {}
    expected: tuple[Tensor, Tensor] | None = None
    refused = False
    exact = step.device.kind != "cuda" and step.precision == "fp32"
    tolerance = GRADIENT_TOLERANCE if exact else ROUNDED_GRADIENT_TOLERANCE
    with preserve_state(step) as state:
        for name in names:
            if name in METAL and refused:  # for a reason that all of them have
                continue
            try:
                executor = _make(name, step, batch)
                alone = expected is None and SingleThread.name in names
                with one_thread() if alone else nullcontext():  # on a busy machine, several only wait for each other
                    found = _gradients(step, executor, batch, state)
            except (UnsupportedExecution, TransitError, RuntimeError) as error:
                if expected is None or step.device.is_out_of_memory(error):
                    raise
                refused |= name == Metal.name
                _tell_unused(name, str(error))
                continue
            if expected is None:
                expected = found
            elif not all(_difference(*pair) <= tolerance for pair in zip(found, expected, strict=True)):
                refused |= name == Metal.name
                _tell_unused(name, f"loss or gradients differ from {names[0]} by more than {tolerance:g}")
                continue
            executors[name] = executor
    return executors


@contextmanager
def preserve_state(step: OptimizerStep) -> Iterator[Tensor]:
    """Yield the device's random state, and restore it and the network's buffers afterwards."""
    state = step.device.rng_state()
    buffers = [(buffer, buffer.clone()) for buffer in step.network.buffers()]
    try:
        yield state
    finally:
        step.device.set_rng_state(state)
        for buffer, value in buffers:
            buffer.copy_(value)


def _difference(found: Tensor, expected: Tensor) -> float:
    """The relative difference in norm; NaN if either has NaN."""
    return float((found - expected).norm() / expected.norm())


def _tell_unused(name: str, reason: str) -> None:
    """Say why the fast execution of a Mac or a GPU is not used; a CPU has others."""
    what = {Metal.name: "Metal kernels are", TritonGraph.name: "fused Triton kernels are"}.get(name, f"{name} is")
    if name in METAL or name in CAPTURING:
        console.note(f"{what} not used: {(reason.splitlines() or [''])[0]}")


def _gradients(step: OptimizerStep, executor: Executor, batch: Batch, state: Tensor) -> tuple[Tensor, Tensor]:
    """A batch's loss and its gradients as one vector, computed with the given random state."""
    step.device.set_rng_state(state)
    loss = executor.gradients([batch]).clone()
    gradients = torch.cat([p.grad.flatten() for p in step.parameters if p.grad is not None])
    step.optimizer.zero_grad(set_to_none=True)
    return loss, gradients
