"""The check that accumulation is exact: gradients of k micro-batches against those of one full batch.

Both are computed by the step that trains, and what is compared is what the optimizer gets: after accumulation,
unscaling and clipping. Dropout is disabled and BatchNorm frozen, because they depend on the batch by design; by how
much is measured separately.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from transit_cli.training.batch import Batch
from transit_cli.training.distributed import SINGLE_PROCESS, ProcessGroup
from transit_cli.training.runner import StepRunner
from transit_cli.training.settings import StepSettings
from transit_cli.training.step import OptimizerStep
from transit_cli.training.workload import random_inputs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from transit_cli.device.base import Device

#: Samples of the full batch, and the numbers k of micro-batches: none divides it, and for k = 7 the last one has a
#: single sample.
SAMPLES, MICRO_BATCH_COUNTS = 31, (2, 3, 4, 7)
#: Of the run of 20 steps: the samples give effective batches of 13, 13 and 5.
EFFECTIVE_BATCH, STEPS = 13, 20

#: The tolerance in float64, and in float32 on the device at least and at most: the same terms are added in another
#: order, so that between the two it is a multiple of the rounding error of one full batch there. Weights are not held
#: to it: Adam divides each gradient by its own size, so that one which is all rounding error still moves its weight by
#: a full step.
TOLERANCE_FLOAT64, TOLERANCE_DEVICE, TIMES_ROUNDING = 1e-10, (1e-4, 1e-2), 4

BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@dataclass(frozen=True)
class Difference:
    """The largest difference between two sets of tensors, by parameter.

    Attributes:
        absolute: of each parameter, the largest |a - b|.
        relative: of each parameter, that over its largest |a|; if a is all zero, the absolute one.
    """

    absolute: dict[str, float]
    relative: dict[str, float]

    @property
    def worst(self) -> float:
        """The largest relative difference."""
        return max(self.relative.values())


@dataclass(frozen=True)
class GradientCheck:
    """One comparison.

    Attributes:
        what: "gradients" or "weights after 20 steps".
        count: number k of micro-batches.
        clip: whether clipping took effect.
        scaler: whether a gradient scaler was used.
        difference: from the full batch.
    """

    what: str
    count: int
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


def split_batch(batch: Batch, count: int) -> list[Batch]:
    """A batch as `count` micro-batches of equal size, the last one smaller, as in training."""
    return batch.split(math.ceil(len(batch) / count))


def random_batch(
    shapes: Mapping[str, tuple[int, ...]], device: Device, dtype: torch.dtype, count: int = SAMPLES
) -> Batch:
    """Random samples of these shapes, always the same ones."""
    inputs = random_inputs(shapes, count, torch.Generator().manual_seed(1))
    return Batch(inputs, torch.arange(count).remainder(2)).to(device.torch_device, dtype)


def deterministic_copy(network: nn.Module) -> nn.Module:
    """A copy that treats samples independently and always gives the same output: no dropout, frozen BatchNorm."""
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, BATCH_NORM):
            module.register_forward_pre_hook(_freeze)
        elif isinstance(module, nn.modules.dropout._DropoutNd):  # noqa: SLF001 - the common base class
            module.p = 0.0
    return network


def _freeze(module: nn.Module, _: object) -> None:
    module.eval()  # each step puts the whole network in training mode


class GradientRecorder:
    """Runs the step that trains on a copy of a network, and records the gradients that its optimizer gets."""

    def __init__(
        self,
        network: nn.Module,
        device: Device,
        *,
        clip: float = 0.0,
        scaler: bool = False,
        processes: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        self.network = copy.deepcopy(network)
        settings = StepSettings(precision="fp32", execution="eager", clip=clip, learning_rate=1e-3)
        step = OptimizerStep(self.network, device, settings, total_steps=STEPS)
        if scaler:
            step.scaler = torch.amp.GradScaler(device.kind, init_scale=2.0**16)
        step.optimizer.register_step_pre_hook(self._record)
        self._runner = StepRunner(step, processes)
        self._gradients: dict[str, Tensor] = {}

    def _record(self, *_: object) -> None:
        named = self.network.named_parameters()
        self._gradients = {name: p.grad.detach().clone() for name, p in named if p.grad is not None}

    def run(self, micro_batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Take one step; returns its gradients."""
        torch.manual_seed(0)
        self._runner.run(micro_batches)
        return self._gradients

    @property
    def weights(self) -> dict[str, Tensor]:
        """The current weights."""
        return {name: values.detach() for name, values in self.network.named_parameters()}


def check_gradients(
    network: nn.Module,
    batch: Batch,
    device: Device,
    counts: Sequence[int] = MICRO_BATCH_COUNTS,
    scalers: Sequence[bool] = (False, True),
) -> list[GradientCheck]:
    """Compare k micro-batches with the full batch, with and without clipping and scaler, and after 20 steps.

    Args:
        network: in the precision to check.
        batch: the full batch, on the device, in that precision.
        device: where to compute.
        counts: the k to check.
        scalers: whether to check without a gradient scaler, with one, or both.
    """
    frozen = deterministic_copy(network)
    unclipped = GradientRecorder(frozen, device).run([batch])
    norm = float(torch.stack([values.double().norm() for values in unclipped.values()]).norm())
    checks = []
    for scaler in scalers:
        for clip in (0.0, norm / 2):
            expected = GradientRecorder(frozen, device, clip=clip, scaler=scaler).run([batch])
            for count in counts:
                found = GradientRecorder(frozen, device, clip=clip, scaler=scaler).run(split_batch(batch, count))
                checks.append(GradientCheck("gradients", count, bool(clip), scaler, compare(expected, found)))
    expected = _trained_weights(frozen, device, batch, 1)
    for count in counts:
        difference = compare(expected, _trained_weights(frozen, device, batch, count))
        checks.append(GradientCheck(f"weights after {STEPS} steps", count, True, False, difference))
    return checks


def rounding_error(network: nn.Module, batch: Batch, device: Device, host: Device) -> float:
    """The largest relative difference of the device's float32 gradients of a full batch from the host's in float64.

    Args:
        network: in float32.
        batch: on the device, in float32.
        device: where to compute in float32.
        host: where to compute in float64.
    """
    frozen = deterministic_copy(network)
    inputs = {name: values.cpu().double() for name, values in batch.inputs.items()}
    double = Batch(inputs, batch.targets.cpu().double())
    exact = GradientRecorder(copy.deepcopy(frozen).double(), host).run([double])
    found = {name: values.cpu().double() for name, values in GradientRecorder(frozen, device).run([batch]).items()}
    return compare(exact, found).worst


def device_tolerance(rounding: float) -> float:
    """The tolerance for the device's gradients, given its rounding error."""
    least, most = TOLERANCE_DEVICE
    return min(max(least, TIMES_ROUNDING * rounding), most)


def _trained_weights(network: nn.Module, device: Device, batch: Batch, count: int) -> dict[str, Tensor]:
    """Weights after 20 optimizer steps over effective batches of 13, 13 and 5 samples in `count` micro-batches each."""
    recorder = GradientRecorder(network, device, clip=1.0)
    effective = batch.split(EFFECTIVE_BATCH)
    for index in range(STEPS):
        recorder.run(split_batch(effective[index % len(effective)], count))
    return recorder.weights


def batch_dependent_layers(network: nn.Module, batch: Batch, device: Device) -> dict[str, float]:
    """What accumulation changes by design, and by how much the gradients differ for k = 2.

    Empty for a network with neither BatchNorm nor dropout.
    """
    dropout = nn.modules.dropout._DropoutNd  # noqa: SLF001 - as above
    kinds: dict[str, tuple[type[nn.Module], ...]] = {
        "BatchNorm: statistics of a micro-batch, not of the full batch": BATCH_NORM,
        "dropout: each micro-batch draws its own masks": (dropout,),
    }
    found = {}
    for label, kind in kinds.items():
        stochastic = copy.deepcopy(network)
        if not any(isinstance(module, kind) for module in stochastic.modules()):
            continue
        for module in stochastic.modules():
            if isinstance(module, (*BATCH_NORM, dropout)) and not isinstance(module, kind):
                module.register_forward_pre_hook(_freeze)
        expected = GradientRecorder(stochastic, device).run([batch])
        found[label] = compare(expected, GradientRecorder(stochastic, device).run(split_batch(batch, 2))).worst
    return found


def unweighted_error(network: nn.Module, batch: Batch, device: Device, count: int = MICRO_BATCH_COUNTS[-1]) -> float:
    """The error of averaging micro-batches without weights: what the check must distinguish from rounding."""
    frozen = deterministic_copy(network)
    expected = GradientRecorder(frozen, device).run([batch])
    each = [GradientRecorder(frozen, device).run([part]) for part in split_batch(batch, count)]
    averaged = {name: torch.stack([item[name] for item in each]).mean(0) for name in expected}
    return compare(expected, averaged).worst
