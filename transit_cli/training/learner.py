"""The state of a fit that changes with every optimizer step, and what is done when memory runs out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from transit_cli import console
from transit_cli.results import ExitCode, TransitError
from transit_cli.training.distributed import SINGLE_PROCESS, ProcessGroup
from transit_cli.training.optimization.average import WeightAverage
from transit_cli.training.runner import StepRunner
from transit_cli.training.step import OptimizerStep

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn

    from transit_cli.device.base import Device
    from transit_cli.training.batch import Batch
    from transit_cli.training.settings import TrainSettings


class Learner:
    """A network that is being trained: its step, averaged weights, running loss and micro-batch size.

    Args:
        network: with its initial weights.
        device: where to compute.
        settings: how; `positive_weight` already balanced.
        total_steps: optimizer steps of the whole fit.
        processes: the processes that train it together.
        augment: changes each micro-batch before it trains.
        class_weights: of a network of several classes, already balanced.

    Attributes:
        micro_batch: current samples of a micro-batch: the batch size, or less after memory ran out.
        loss: the sum of the losses since the epoch began, on the device.
    """

    def __init__(
        self,
        network: nn.Module,
        device: Device,
        settings: TrainSettings,
        total_steps: int,
        *,
        processes: ProcessGroup = SINGLE_PROCESS,
        augment: Callable[[Batch], Batch] | None = None,
        class_weights: Sequence[float] = (),
    ) -> None:
        self.device = device
        processes.broadcast_weights(network)
        self.step = OptimizerStep(network, device, settings, total_steps, augment=augment, class_weights=class_weights)
        self.runner = StepRunner(self.step, processes)
        self.average = WeightAverage(network, settings.ema)
        self.micro_batch = settings.batch_size
        self.loss = torch.zeros((), device=device.torch_device)

    @property
    def global_step(self) -> int:
        """Optimizer steps taken."""
        return self.step.global_step

    def learn(self, batches: Sequence[Batch]) -> None:
        """Take one optimizer step, in smaller micro-batches if memory runs out. Nothing waits for the device."""
        augmented = not self.runner.captures_augmentation
        if augmented:  # once, so that a step that ran out of memory is repeated with the same values
            batches = self.step.augment_batches(batches)
        while True:
            try:
                parts = split_micro_batches(batches, self.micro_batch)
                self.runner.run_summing(parts, self.loss, augmented=augmented)
            except Exception as error:
                if not self.device.is_out_of_memory(error):
                    raise
                self.halve_micro_batch(str(error).splitlines()[0])
            else:
                self.average.update(self.global_step)
                return

    def halve_micro_batch(self, reason: str) -> None:
        """Halve the micro-batch; the effective batch, and so the result, stays the same.

        Raises:
            TransitError: the micro-batch is a single sample already.
        """
        self.step.optimizer.zero_grad(set_to_none=True)
        self.device.empty_cache()
        if self.micro_batch <= 1:
            raise TransitError(
                f"out of memory with one sample at a time: {reason}",
                wanted="memory for one sample's forward and backward pass",
                fix="close other programs, or train a smaller --network",
                exit_code=ExitCode.MACHINE,
                code="out-of-memory",
            )
        self.micro_batch //= 2
        console.warn(
            f"memory is short ({reason}): continuing with micro-batches of {self.micro_batch}; the effective batch is"
            " unchanged"
        )

    def finite(self) -> bool:
        """Whether the loss is finite or, as the scaler of fp16 may skip a step, the weights are.

        It waits for the device.
        """
        return math.isfinite(float(self.loss)) or (self.step.precision == "fp16" and self.weights_finite())

    def weights_finite(self) -> bool:
        """Whether no weight is infinite or NaN. It waits for the device."""
        return bool(torch.stack([weight.isfinite().all() for weight in self.step.parameters]).all())

    def weights(self) -> dict[str, Tensor]:
        """The weights to keep, copied to the CPU: the averaged ones if there is an average."""
        with self.average.applied():
            return {name: value.detach().cpu().clone() for name, value in self.step.network.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to resume, including the states of the random generators."""
        return {
            "network": self.step.network.state_dict(),
            "average": self.average.values,
            "step": self.runner.state_dict(),
            "micro": self.micro_batch,
            "loss": self.loss,
            "random": self.random_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a state that `state_dict` returned; an exception of any type if it is not one."""
        self.step.network.load_state_dict(state["network"])
        self.average.load(state["average"])
        self.runner.load_state_dict(state["step"])
        if type(state["micro"]) is not int or state["micro"] < 1:
            raise ValueError(f"micro-batches of {state['micro']!r}")
        self.micro_batch = state["micro"]
        self.loss = state["loss"].to(self.device.torch_device)
        self.set_random_state(state["random"])

    def random_state(self) -> dict[str, Tensor]:
        """The states of the random generators that a fit draws from."""
        return {"cpu": torch.get_rng_state(), "device": self.device.rng_state()}

    def set_random_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `random_state` returned."""
        torch.set_rng_state(state["cpu"])
        self.device.set_rng_state(state["device"])


def split_micro_batches(batches: Sequence[Batch], size: int) -> Sequence[Batch]:
    """The same samples in micro-batches of at most `size`."""
    if all(len(batch) <= size for batch in batches):
        return batches
    return [part for batch in batches for part in batch.split(size)]
