"""Checks of a device: the training step on it, compared with the same step in float64 on the CPU."""

from __future__ import annotations

import copy
import functools
import os
import re
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own convention

from transit_cli.device import precision
from transit_cli.device.environment import FALLBACK
from transit_cli.doctor.check import CheckResult
from transit_cli.model.two_branch import build
from transit_cli.training.batch import Batch
from transit_cli.training.runner import StepRunner
from transit_cli.training.settings import StepSettings
from transit_cli.training.step import OptimizerStep
from transit_cli.training.workload import random_inputs

if TYPE_CHECKING:
    from collections.abc import Callable

    from transit_cli.device.base import Device, Precision

VIEWS = {"global": 201, "local": 61}
SAMPLES = 16

#: Largest difference of gradients from float64's, relative to their norm. On a CPU they differ by 3e-7 (float32),
#: 3e-3 (float16) and 2e-2 (bfloat16); CUDA's TF32 is near 1e-3. The known bugs of MPS are wrong by their whole size.
TOLERANCES: dict[Precision, float] = {"fp32": 1e-2, "fp16": 5e-2, "bf16": 1e-1}

#: Bytes that the memory check allocates: what a training step of the default networks takes at their usual batch.
TEST_BYTES = 256 << 20


class DeviceChecks:
    """The checks of a device, and what they share: the network, a batch, and the exact gradients.

    Ids consist of the device's kind and a part: "mps-step", "mps-fp16".
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self.float32_rate = 0.0

    @functools.cached_property
    def network(self) -> torch.nn.Module:
        """The default network without dropout, for which each device would draw its own numbers."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return build(VIEWS).eval()

    @functools.cached_property
    def batch(self) -> Batch:
        """A batch on the CPU. All of one class: otherwise the samples' gradients cancel and only rounding remains."""
        random = torch.Generator().manual_seed(0)
        return Batch(random_inputs(VIEWS, SAMPLES, random), torch.ones(SAMPLES))

    @functools.cached_property
    def exact(self) -> list[torch.Tensor]:
        """The gradients in float64."""
        network = copy.deepcopy(self.network).double()
        logits = network({name: view.double() for name, view in self.batch.inputs.items()})
        F.binary_cross_entropy_with_logits(logits, self.batch.targets.double()).backward()
        return [parameter.grad for parameter in network.parameters() if parameter.grad is not None]

    def memory(self) -> CheckResult:
        """Allocate as much memory as a training step takes, and free it."""
        row_id = f"{self.device.kind}-memory"
        before = self.device.memory()
        block = torch.zeros(TEST_BYTES // 4, device=self.device.torch_device)
        self.device.synchronize()
        held = self.device.memory().allocated - before.allocated
        del block
        self.device.empty_cache()
        taken = f"{TEST_BYTES >> 20} MiB allocated"
        if held < TEST_BYTES:
            why = "a batch size cannot be probed without counted memory"
            return CheckResult(row_id, "warn", f"{taken}, {held >> 20} counted", why=why)
        limit = f"; the limit is {before.limit / 2**30:.1f} GiB" if before.limit else ""
        return CheckResult(row_id, "ok", f"{taken} and freed{limit}")

    def step(self) -> CheckResult:
        """A step in float32, and its samples per second."""
        return self._compare("step", "fp32", self.network, self.batch)

    def strided(self) -> CheckResult:
        """Inputs and weights that are not contiguous in memory."""
        network = copy.deepcopy(self.network)
        for parameter in network.parameters():
            parameter.data = _strided(parameter.data)
        inputs = {name: _strided(view) for name, view in self.batch.inputs.items()}
        return self._compare("strided", "fp32", network, Batch(inputs, self.batch.targets))

    def half(self, name: Precision) -> CheckResult:
        """Float16 with its gradient scaler, or bfloat16."""
        reason = precision.why_not(self.device, name)
        if reason:
            return CheckResult(f"{self.device.kind}-{name}", "skip", reason)
        return self._compare(name, name, self.network, self.batch)

    def _compare(self, part: str, name: Precision, network: torch.nn.Module, batch: Batch) -> CheckResult:
        """Compare gradients with float64's; then take whole steps, which must change every weight to a finite value."""
        row_id = f"{self.device.kind}-{part}"
        settings = StepSettings(precision=name, execution="eager", schedule="constant", learning_rate=1e-3)
        runner = StepRunner(OptimizerStep(copy.deepcopy(network), self.device, settings, total_steps=10))
        step = runner.step
        batch = batch.to(self.device.torch_device)
        runner.gradients([batch])
        error = relative_error(step, self.exact)
        step.optimizer.zero_grad(set_to_none=True)
        before = [parameter.detach().clone() for parameter in step.parameters]
        rate = self._rate(runner, batch)
        if not error <= TOLERANCES[name]:  # NaN is not
            finite = f"gradients differ from float64's by {error:.0%}"
            found = finite if error < 1e3 else "gradients are NaN or infinite"
            return _wrong(row_id, name, found, f"at most {TOLERANCES[name]:.0%}")
        if not all(bool(parameter.isfinite().all()) for parameter in step.parameters):
            return _wrong(row_id, name, "the optimizer produces NaN or infinite weights", "finite weights")
        if any(torch.equal(old, new) for old, new in zip(before, step.parameters, strict=True)):
            return _wrong(row_id, name, "the optimizer does not update some weights", "every weight updated")
        found = f"within {error:.0e} of float64"
        if part == "step":
            self.float32_rate = rate
            found += f"; {rate:,.0f} samples/s at batch {SAMPLES}"
        elif name != "fp32" and self.float32_rate:
            found += f"; {rate / self.float32_rate:.2g} x float32's speed"
        return CheckResult(row_id, "ok", found)

    def _rate(self, runner: StepRunner, batch: Batch) -> float:
        """Samples per second, by the faster of two steps; `runner.gradients` has compiled everything before.

        Half precisions take one step: emulated, as on most CPUs, they are slow.
        """
        timer = self.device.timer()
        timer.mark()
        for _ in range(2 if runner.step.precision == "fp32" else 1):
            runner.gradients([batch])
            runner.step.update()
            timer.mark()
        return len(batch) / max(min(timer.seconds()), 1e-9)


CHECKS: dict[str, Callable[[DeviceChecks], CheckResult]] = {
    "memory": DeviceChecks.memory,
    "step": DeviceChecks.step,
    "strided": DeviceChecks.strided,
    "fp16": lambda checks: checks.half("fp16"),
    "bf16": lambda checks: checks.half("bf16"),
}


def _strided(values: torch.Tensor) -> torch.Tensor:
    """The same values in column-major order; vectors are unchanged."""
    return values.transpose(0, 1).contiguous().transpose(0, 1) if values.ndim > 1 else values


def relative_error(step: OptimizerStep, exact: list[torch.Tensor]) -> float:
    """The norm of all gradients' errors relative to the norm of all gradients; NaN if one is missing."""
    scale = step.scaler.get_scale()
    wrong = total = 0.0
    for parameter, gradient in zip(step.parameters, exact, strict=True):
        if parameter.grad is None:
            return float("nan")
        wrong += float(((parameter.grad.cpu().double() / scale - gradient) ** 2).sum())
        total += float((gradient**2).sum())
    return (wrong / total) ** 0.5


def _wrong(row_id: str, name: Precision, found: str, wanted: str) -> CheckResult:
    """Wrong results: a failure in float32, a warning in a half precision, which is optional."""
    why = "a network that is trained with wrong gradients learns something else, without an error"
    if name == "fp32":
        return CheckResult(row_id, "fail", found, wanted, why, "transit train --device cpu")
    return CheckResult(row_id, "warn", found, wanted, why, "transit train --precision fp32")


def operator(text: str) -> str:
    """The operator named in one of torch's messages about MPS."""
    found = re.search(r"'(aten::[^']+)'", text)
    return found[1] if found else "an operator"


def failure(row_id: str, error: Exception, device: Device) -> CheckResult:
    """The result for an error in a device's check."""
    text = re.split(r"\.\s|\n", str(error) or type(error).__name__, maxsplit=1)[0]
    cpu = "transit train --device cpu"
    if device.is_out_of_memory(error):
        found, _, numbers = text.partition(" (")
        why = "training takes more than the doctor: close other programs, or reduce the batch"
        why += f" ({numbers}" if numbers else ""
        return CheckResult(row_id, "fail", found, f"{TEST_BYTES >> 20} MiB and more", why, "transit probe-batch")
    if isinstance(error, TypeError) and "float64" in text:
        why = "MPS has no float64, but the default dtype or a modified network uses it"
        fix = 'python -c "import torch; print(torch.get_default_dtype())"'
        return CheckResult(row_id, "fail", text, "float32 throughout", why, fix)
    if "not currently implemented for the MPS device" in text:
        text = f"MPS lacks {operator(text)}"
        if os.environ.get(FALLBACK, "0") != "0":
            why = f"{FALLBACK} is set, but was not when torch was imported"
            return CheckResult(row_id, "fail", text, "the fallback before torch", why, f"export {FALLBACK}=1")
        why = "with the fallback it runs on the CPU, slower"
        return CheckResult(row_id, "fail", text, "every operator of the step", why, f"export {FALLBACK}=1")
    if device.is_unsupported_operator(error):
        why = "its kernel refuses these shapes or types, which the fallback does not cover"
        return CheckResult(row_id, "fail", text, "every operator of the step", why, cpu)
    return CheckResult(
        row_id, "fail", f"{type(error).__name__}: {text}", "a training step", "training fails in the same way", cpu
    )
