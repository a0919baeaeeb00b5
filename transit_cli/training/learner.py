"""A network as it learns: its step, its averaged weights, its running loss; and what to do when memory runs short."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from transit_cli import console
from transit_cli.results import ExitCode, TransitError
from transit_cli.training.average import WeightAverage
from transit_cli.training.distributed import SINGLE_PROCESS, ProcessGroup
from transit_cli.training.step import Batch, Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from transit_cli.device.base import Device
    from transit_cli.training.settings import TrainSettings


class Learner:
    """Everything about a fit that changes with each optimizer step.

    Args:
        network: with its first weights.
        device: where to compute.
        settings: how; `positive_weight` already balanced.
        total_steps: optimizer steps of the whole fit.
        processes: those that learn together.
        augment: changes each micro-batch before it trains.

    Attributes:
        micro: samples of a micro-batch now: the batch size, or less where memory is short.
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
    ) -> None:
        self.device = device
        processes.broadcast_weights(network)
        self.step = Step(network, device, settings, total_steps, processes=processes, augment=augment)
        self.average = WeightAverage(network, settings.ema)
        self.micro = settings.batch_size
        self.loss = torch.zeros((), device=device.torch_device)

    def learn(self, batches: list[Batch]) -> None:
        """One optimizer step, in smaller micro-batches where memory runs out. Nothing waits for the device."""
        prepared = self.step.executor is None or not self.step.executor.captures
        if prepared:  # once, so that what runs out of memory is tried again with the same numbers
            batches = [*self.step.prepared(batches)]
        while True:
            try:
                loss = self.step.step(smaller(batches, self.micro), prepared=prepared)
            except Exception as error:
                if not self.device.is_out_of_memory(error):
                    raise
                self.shrink(str(error).splitlines()[0])
            else:
                self.loss += loss
                self.average.update(self.step.steps)
                return

    def shrink(self, why: str) -> None:
        """Go on with half the micro-batch: the effective batch stays, so what is learned does too.

        Raises:
            TransitError: there is nothing left to halve.
        """
        self.step.optimizer.zero_grad(set_to_none=True)
        self.device.empty_cache()
        if self.micro <= 1:
            raise TransitError(
                f"out of memory with one sample at a time: {why}",
                wanted="memory for one sample's forward and backward pass",
                fix="close other programs, or train a smaller --network",
                exit_code=ExitCode.MACHINE,
                code="out-of-memory",
            )
        self.micro //= 2
        console.warn(f"memory is short ({why}): going on with micro-batches of {self.micro}, the same in effect")

    def finite(self) -> bool:
        """Whether the loss is a number, or, where the scaler of float16 may have passed over a step, the weights are.

        It waits for the device.
        """
        return math.isfinite(float(self.loss)) or (self.step.precision == "fp16" and self.weights_finite())

    def weights_finite(self) -> bool:
        """Whether no weight is infinite or no number. It waits for the device."""
        return bool(torch.stack([weight.isfinite().all() for weight in self.step.parameters]).all())

    def weights(self) -> dict[str, Tensor]:
        """The weights to keep, copied to the CPU: the averaged ones if there is an average."""
        with self.average.applied():
            return {name: value.detach().cpu().clone() for name, value in self.step.network.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        """All that it takes to go on, random numbers included."""
        return {
            "network": self.step.network.state_dict(),
            "average": self.average.values,
            "step": self.step.state_dict(),
            "micro": self.micro,
            "loss": self.loss,
            "random": self.random(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state that `state_dict` returned, as if there had been no stop."""
        self.step.network.load_state_dict(state["network"])
        self.average.load(state["average"])
        self.step.load_state_dict(state["step"])
        self.micro = state["micro"]
        self.loss = state["loss"].to(self.device.torch_device)
        self.set_random(state["random"])

    def random(self) -> dict[str, Tensor]:
        """The states of the generators that a fit draws from."""
        return {"cpu": torch.get_rng_state(), "device": self.device.rng_state()}

    def set_random(self, state: dict[str, Tensor]) -> None:
        """Go on drawing from what `random` returned."""
        torch.set_rng_state(state["cpu"])
        self.device.set_rng_state(state["device"])


def smaller(batches: list[Batch], micro: int) -> list[Batch]:
    """The same samples in micro-batches of at most `micro`."""
    if all(len(batch) <= micro for batch in batches):
        return batches
    cut: list[Batch] = []
    for batch in batches:
        parts = {name: values.split(micro) for name, values in batch.inputs.items()}
        cut += [
            Batch({name: values[index] for name, values in parts.items()}, target)
            for index, target in enumerate(batch.targets.split(micro))
        ]
    return cut
