"""The step with Metal kernels beside the eager step: agreement and time. `python -m` runs it and prints a document.

All start from the same weights, without dropout, and take the same steps.
"""

from __future__ import annotations

import json
import statistics
import sys
from typing import TYPE_CHECKING, Any, Literal, get_args

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

Execution = Literal["eager", "metal", "metal-matrices"]
EXECUTIONS: tuple[Execution, ...] = get_args(Execution)

#: Largest relative difference in norm: of the gradients, as in `training.execution.selection`; of the weights after all
#: steps, as the tests of the kernels allow after 50.
GRADIENT_TOLERANCE, WEIGHT_TOLERANCE = 1e-2, 1e-2


def compare(device: Device) -> dict[str, Any]:
    """Run each; the document's data, with the reason in the place of numbers for one that cannot be used."""
    data: dict[str, Any] = {"device_name": device.facts.name, "batch_size": SAMPLES, "steps": WARM_UP + STEPS}
    executions: dict[str, dict[str, Any]] = {}
    eager: tuple[torch.Tensor, torch.Tensor] | None = None
    for execution in EXECUTIONS:
        try:
            found, gradients, weights = _run(device, execution)
        except TransitError as error:
            executions[execution] = {"refused": error.found}
            continue
        eager = eager or (gradients, weights)
        found["gradient_difference"] = _difference(gradients, eager[0])
        found["weight_difference"] = _difference(weights, eager[1])
        executions[execution] = found
    return data | {"executions": executions}


def _run(device: Device, execution: Execution) -> tuple[dict[str, float], torch.Tensor, torch.Tensor]:
    """Times and losses, the gradients of the first batch, and the weights after all steps."""
    runner = _runner(device, execution)
    batch = Batch(random_inputs(VIEWS, SAMPLES, torch.Generator().manual_seed(1)), torch.arange(SAMPLES) % 2.0)
    batch = batch.to(device.torch_device)
    first = float(runner.gradients([batch]))
    gradients = _flat([parameter.grad for parameter in runner.step.parameters])
    runner.step.optimizer.zero_grad(set_to_none=True)
    for _ in range(WARM_UP):
        runner.run([batch])
    timer = device.timer()
    timer.mark()
    last = torch.zeros(())
    for _ in range(STEPS):
        last = runner.run([batch])
        timer.mark()
    seconds = statistics.median(timer.seconds())
    found = {
        "milliseconds": 1000 * seconds,
        "samples_per_second": SAMPLES / max(seconds, 1e-9),
        "first_loss": first,
        "last_loss": float(last),
    }
    return found, gradients, _flat(list(runner.step.parameters))


def _runner(device: Device, execution: Execution) -> StepRunner:
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
    ran = {name: found for name, found in data["executions"].items() if "refused" not in found}
    equal = all(
        found["gradient_difference"] <= GRADIENT_TOLERANCE and found["weight_difference"] <= WEIGHT_TOLERANCE
        for found in ran.values()
    )
    words = [
        f"{name} {ran['eager']['milliseconds'] / found['milliseconds']:.2f} times eager's speed"
        for name, found in ran.items()
        if name != "eager"
    ]
    words += [
        f"{name} not used: {data['executions'][name]['refused']}" for name in data["executions"] if name not in ran
    ]
    verdict = ("equal: " if equal else "DIFFERENT from eager: ") + "; ".join(words)
    return {"data": data, "verdict": verdict, "equal": equal and len(ran) > 1}


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
