"""The step with Metal kernels beside the eager step: agreement and time. `python -m` runs it and prints a document.

Both start from the same weights, without dropout, and take the same steps.
"""

from __future__ import annotations

import json
import statistics
import sys
from typing import TYPE_CHECKING, Any, Literal

import torch

from transit_cli.device import environment
from transit_cli.device.select import select
from transit_cli.model.two_branch import build
from transit_cli.results import ExitCode, TransitError
from transit_cli.training.batch import Batch
from transit_cli.training.runner import StepRunner
from transit_cli.training.settings import StepSettings
from transit_cli.training.step import OptimizerStep
from transit_cli.training.workload import random_inputs

if TYPE_CHECKING:
    from transit_cli.device.base import Device

VIEWS = {"global": 2001, "local": 201}
SAMPLES, WARM_UP, STEPS = 64, 5, 30

#: Largest relative difference in norm: of the gradients, as in `training.execution.selection`; of the weights after all
#: steps, as the tests of the kernels allow after 50.
GRADIENT_TOLERANCE, WEIGHT_TOLERANCE = 1e-2, 1e-2


def compare(device: Device) -> dict[str, Any]:
    """Run both; their document's data, without "metal" if it cannot be used.

    Raises:
        TransitError: the kernels cannot be used here.
    """
    data: dict[str, Any] = {"device_name": device.facts.name, "batch_size": SAMPLES, "steps": WARM_UP + STEPS}
    gradients: dict[str, torch.Tensor] = {}
    weights: dict[str, torch.Tensor] = {}
    both: tuple[Literal["eager", "metal"], ...] = ("eager", "metal")
    for execution in both:
        runner = _runner(device, execution)
        batch = Batch(random_inputs(VIEWS, SAMPLES, torch.Generator().manual_seed(1)), torch.arange(SAMPLES) % 2.0)
        batch = batch.to(device.torch_device)
        loss = float(runner.gradients([batch]))
        gradients[execution] = _flat([parameter.grad for parameter in runner.step.parameters])
        runner.step.optimizer.zero_grad(set_to_none=True)
        for _ in range(WARM_UP):
            runner.run([batch])
        timer = device.timer()
        timer.mark()
        for _ in range(STEPS):
            last = runner.run([batch])
            timer.mark()
        seconds = statistics.median(timer.seconds())
        weights[execution] = _flat(list(runner.step.parameters))
        data[execution] = {
            "milliseconds": 1000 * seconds,
            "samples_per_second": SAMPLES / max(seconds, 1e-9),
            "first_loss": loss,
            "last_loss": float(last),
        }
    data["gradient_difference"] = _difference(gradients["metal"], gradients["eager"])
    data["weight_difference"] = _difference(weights["metal"], weights["eager"])
    return data


def _runner(device: Device, execution: Literal["eager", "metal"]) -> StepRunner:
    torch.manual_seed(0)
    network = build(VIEWS)
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    settings = StepSettings(precision="fp32", execution=execution, schedule="constant")
    return StepRunner(OptimizerStep(network, device, settings, total_steps=WARM_UP + STEPS))


def _flat(tensors: list[Any]) -> torch.Tensor:
    return torch.cat([tensor.detach().cpu().double().flatten() for tensor in tensors if tensor is not None])


def _difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def document(data: dict[str, Any]) -> dict[str, Any]:
    """The document of a comparison."""
    close = data["gradient_difference"] <= GRADIENT_TOLERANCE and data["weight_difference"] <= WEIGHT_TOLERANCE
    ratio = data["eager"]["milliseconds"] / data["metal"]["milliseconds"]
    verdict = f"{'equal to' if close else 'DIFFERENT from'} eager, at {ratio:.2f} times its speed"
    return {"data": data, "verdict": verdict, "equal": close}


def main() -> None:
    """Compare on MPS, and print the document."""
    environment.prepare()
    try:
        found = document(compare(select("mps")))
    except TransitError as error:
        print(json.dumps({"data": {}, "verdict": error.found, "errors": [error.document()]}))  # noqa: T201
        sys.exit(error.exit_code)
    print(json.dumps(found))  # noqa: T201 - the parent reads it
    sys.exit(ExitCode.DONE if found["equal"] else ExitCode.NEGATIVE)


if __name__ == "__main__":
    main()
