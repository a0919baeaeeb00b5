"""Many optimizer steps: how far a device's losses differ from the CPU's, compared with rounding.

Training amplifies rounding, so the bound is measured, not assumed: the CPU runs again from weights that differ by one
part in ten million, and a device may differ by a multiple of the effect.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from transit_cli.device.cpu import CpuDevice

if TYPE_CHECKING:
    from transit_cli.device.base import Device
    from transit_cli.operators.step_factory import StepFactory

#: Samples of a batch.
SAMPLES = 16
#: Relative perturbation of the weights that measures the effect of rounding; the allowed multiple; repetitions.
PERTURBATION, MARGIN, REPEATS = 1e-7, 30.0, 2
#: Differences that are always allowed, relative to the first loss.
MIN_BOUNDS = {"fp32": 1e-4, "fp16": 0.05, "bf16": 0.1}


def drift(factory: StepFactory, device: Device, precision: str, steps: int) -> dict[str, Any]:
    """Losses of `steps` steps in a precision on the device, against the CPU's in float32; dropout is off."""
    host = replace(factory, settings=factory.settings.replace(precision="fp32"))
    reference = _losses(host, CpuDevice(), steps)
    perturbed = [_losses(host, CpuDevice(), steps, perturbation_seed=seed) for seed in range(1, REPEATS + 1)]
    found = _losses(replace(factory, settings=factory.settings.replace(precision=precision)), device, steps)
    allowed = worst = 0.0
    bound: list[float] = []
    for step in range(steps):
        allowed = max(allowed, *(abs(run[step] - reference[step]) for run in perturbed))
        bound.append(MARGIN * allowed + MIN_BOUNDS[precision] * abs(reference[0]))
        gap = abs(found[step] - reference[step]) / bound[-1]
        worst = max(worst, gap if gap == gap else float("inf"))  # noqa: PLR0124 - NaN
    return {
        "steps": steps,
        "batch": SAMPLES,
        "losses": found,
        "cpu_losses": reference,
        "bound": bound,
        "worst": worst,
        "status": "ok" if worst <= 1 else "wrong",
    }


def _losses(factory: StepFactory, device: Device, steps: int, perturbation_seed: int = 0) -> list[float]:
    runner = factory.runner_on(device, dropout=False)
    if perturbation_seed:
        noise = torch.Generator().manual_seed(perturbation_seed)
        with torch.no_grad():
            for parameter in runner.step.parameters:
                parameter.mul_(1 + PERTURBATION * torch.randn(parameter.shape, generator=noise))
    batches = [factory.batch(device, SAMPLES, seed) for seed in range(4)]
    losses = [runner.run([batches[index % len(batches)]]) for index in range(steps)]
    return [float(loss) for loss in losses]
