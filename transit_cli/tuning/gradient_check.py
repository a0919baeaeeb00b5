"""The proof that accumulation is exact: gradients of k micro-batches against those of one full batch.

The real step runs both, and what the optimizer is handed is compared: after accumulation, unscaling and clipping.
Dropout is turned off and BatchNorm frozen for it, because they are not equal by nature; how unequal is measured apart.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from transit_cli.training.batch import Batch
from transit_cli.training.runner import StepRunner
from transit_cli.training.settings import StepSettings
from transit_cli.training.step import OptimizerStep
from transit_cli.training.workload import random_inputs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from transit_cli.device.base import Device

#: Samples of the full batch: none of the k divides it, and for k = 7 the last micro-batch has a single sample.
SAMPLES, PARTS = 31, (2, 3, 4, 7)
#: Of the run of 20 steps: the set gives groups of 13, 13 and 5.
EFFECTIVE, STEPS = 13, 20

#: What float64 must stay under, and the gradients in float32 on the device at least and at most: the same terms are
#: added in another order, so that between the two it is so many times what rounding makes of one whole batch there.
#: Weights are not held to these: Adam divides each gradient by its own size, so that one which is all rounding error
#: still moves its weight by a full step.
TOLERANCE_FLOAT64, TOLERANCE_DEVICE, TIMES_ROUNDING = 1e-10, (1e-4, 1e-2), 4

BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@dataclass(frozen=True)
class Difference:
    """The largest difference between two sets of tensors, by parameter.

    Attributes:
        absolute: of each parameter, the largest |a - b|.
        relative: of each parameter, that over its largest |a|; where a is all zero, the absolute one.
    """

    absolute: dict[str, float]
    relative: dict[str, float]

    @property
    def worst(self) -> float:
        """The largest relative difference."""
        return max(self.relative.values())


@dataclass(frozen=True)
class Check:
    """One comparison.

    Attributes:
        what: "gradients" or "weights after 20 steps".
        parts: micro-batches k.
        clip: whether clipping acted.
        scaler: whether a gradient scaler was at work.
        difference: from the full batch.
    """

    what: str
    parts: int
    clip: bool
    scaler: bool
    difference: Difference


def compare(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> Difference:
    """The difference of two sets of tensors of the same names and shapes."""
    absolute: dict[str, float] = {}
    relative: dict[str, float] = {}
    for name, values in expected.items():
        largest = float((values - found[name]).abs().max())
        size = float(values.abs().max())
        absolute[name], relative[name] = largest, largest / size if size else largest
    return Difference(absolute, relative)


def split(batch: Batch, parts: int) -> list[Batch]:
    """A batch as micro-batches of equal size, the last one smaller, as training cuts it."""
    size = -(-len(batch) // parts)
    targets = batch.targets.split(size)
    inputs = {name: values.split(size) for name, values in batch.inputs.items()}
    return [Batch({name: values[i] for name, values in inputs.items()}, target) for i, target in enumerate(targets)]


def sample(shapes: Mapping[str, tuple[int, ...]], device: Device, dtype: torch.dtype, count: int = SAMPLES) -> Batch:
    """Random samples, the same ones every time, of these shapes."""
    inputs = random_inputs(shapes, count, torch.Generator().manual_seed(1))
    return Batch(inputs, torch.arange(count).remainder(2)).to(device.torch_device, dtype)


def deterministic_copy(network: nn.Module) -> nn.Module:
    """A copy whose samples do not touch each other and whose every pass is the same: no dropout, frozen BatchNorm."""
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, BATCH_NORM):
            module.register_forward_pre_hook(_freeze)
        elif isinstance(module, nn.modules.dropout._DropoutNd):  # noqa: SLF001 - the one name all of them share
            module.p = 0.0
    return network


def _freeze(module: nn.Module, _: object) -> None:
    module.eval()  # the step puts the whole network in training mode each time


class Recorder:
    """The real step on a copy of a network, which keeps the gradients that its optimizer is handed."""

    def __init__(self, network: nn.Module, device: Device, *, clip: float = 0.0, scaler: bool = False) -> None:
        self.network = copy.deepcopy(network)
        settings = StepSettings(precision="fp32", execution="eager", clip=clip, learning_rate=1e-3)
        self.step = OptimizerStep(self.network, device, settings, total_steps=STEPS)
        self._runner = StepRunner(self.step)
        if scaler:
            self.step.scaler = torch.amp.GradScaler(device.kind, init_scale=2.0**16)
        self.step.optimizer.register_step_pre_hook(self._keep)
        self.gradients: dict[str, Tensor] = {}

    def _keep(self, *_: object) -> None:
        named = self.network.named_parameters()
        self.gradients = {name: p.grad.detach().clone() for name, p in named if p.grad is not None}

    def take(self, micro_batches: Sequence[Batch]) -> dict[str, Tensor]:
        """One step; its gradients."""
        torch.manual_seed(0)
        self._runner.run(micro_batches)
        return self.gradients

    @property
    def weights(self) -> dict[str, Tensor]:
        """The weights now."""
        return {name: values.detach() for name, values in self.network.named_parameters()}


def prove(
    network: nn.Module,
    batch: Batch,
    device: Device,
    parts: Sequence[int] = PARTS,
    scalers: Sequence[bool] = (False, True),
) -> list[Check]:
    """Compare k micro-batches with the full batch, with and without clipping and scaler, and after 20 steps.

    Args:
        network: in the precision to prove it in.
        batch: the full batch, on the device, in that precision.
        device: where to compute.
        parts: the k to prove.
        scalers: whether to prove it without a gradient scaler, with one, or both.
    """
    frozen = deterministic_copy(network)
    free = Recorder(frozen, device).take([batch])
    norm = float(torch.stack([values.double().norm() for values in free.values()]).norm())
    checks = []
    for scaler in scalers:
        for clip in (0.0, norm / 2):
            expected = Recorder(frozen, device, clip=clip, scaler=scaler).take([batch])
            for count in parts:
                found = Recorder(frozen, device, clip=clip, scaler=scaler).take(split(batch, count))
                checks.append(Check("gradients", count, bool(clip), scaler, compare(expected, found)))
    expected = _trained(frozen, device, batch, 1)
    checks += [
        Check(
            f"weights after {STEPS} steps",
            count,
            True,
            False,
            compare(expected, _trained(frozen, device, batch, count)),
        )
        for count in parts
    ]
    return checks


def rounding(network: nn.Module, batch: Batch, device: Device, host: Device) -> float:
    """How far the device's gradients of one whole batch are from float64's on the host, for want of digits.

    Args:
        network: in float32.
        batch: on the device, in float32.
        device: where to compute in float32.
        host: where to compute in float64.
    """
    frozen = deterministic_copy(network)
    inputs = {name: values.cpu().double() for name, values in batch.inputs.items()}
    exact = Recorder(copy.deepcopy(frozen).double(), host).take([Batch(inputs, batch.targets.cpu().double())])
    found = {name: values.cpu().double() for name, values in Recorder(frozen, device).take([batch]).items()}
    return compare(exact, found).worst


def device_tolerance(rounding: float) -> float:
    """What the device's gradients must stay under, where its rounding is this."""
    least, most = TOLERANCE_DEVICE
    return min(max(least, TIMES_ROUNDING * rounding), most)


def _trained(network: nn.Module, device: Device, batch: Batch, parts: int) -> dict[str, Tensor]:
    """Weights after 20 optimizer steps over groups of 13, 13 and 5 samples, each in `parts` micro-batches."""
    recorder = Recorder(network, device, clip=1.0)
    groups = split(batch, -(-len(batch) // EFFECTIVE))
    for index in range(STEPS):
        recorder.take(split(groups[index % len(groups)], parts))
    return recorder.weights


def batch_dependent_layers(network: nn.Module, batch: Batch, device: Device) -> dict[str, float]:
    """What accumulation changes although its sums are exact, and by how much the gradients differ for k = 2.

    Empty for a network with neither BatchNorm nor dropout.
    """
    dropout = nn.modules.dropout._DropoutNd  # noqa: SLF001 - as above
    kinds: dict[str, tuple[type[nn.Module], ...]] = {
        "BatchNorm: statistics of a micro-batch, not of the whole": BATCH_NORM,
        "dropout: each micro-batch draws its own units": (dropout,),
    }
    found = {}
    for label, kind in kinds.items():
        stochastic = copy.deepcopy(network)
        if not any(isinstance(module, kind) for module in stochastic.modules()):
            continue
        for module in stochastic.modules():
            if isinstance(module, (*BATCH_NORM, dropout)) and not isinstance(module, kind):
                module.register_forward_pre_hook(_freeze)
        expected = Recorder(stochastic, device).take([batch])
        found[label] = compare(expected, Recorder(stochastic, device).take(split(batch, 2))).worst
    return found


def unweighted_error(network: nn.Module, batch: Batch, device: Device, parts: int = PARTS[-1]) -> float:
    """The error that counting every micro-batch alike would make: what the proof has to tell from rounding."""
    frozen = deterministic_copy(network)
    expected = Recorder(frozen, device).take([batch])
    each = [Recorder(frozen, device).take([part]) for part in split(batch, parts)]
    averaged = {name: torch.stack([item[name] for item in each]).mean(0) for name in expected}
    return compare(expected, averaged).worst
