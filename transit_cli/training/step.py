"""One optimizer step: forward, loss, accumulation, unscale, clip, optimizer, schedule.

`train`, `probe-batch`, `accumulate`, `profile`, `bench` and `fallback-test` all run this step: what is probed or
profiled is what trains. Nothing in it waits for the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody writes it
from torch import Tensor

from transit_cli.device import precision
from transit_cli.training.distributed import SINGLE_PROCESS, ProcessGroup
from transit_cli.training.execution import selection
from transit_cli.training.execution.data_parallel import DataParallel
from transit_cli.training.optimizer import Adam, AdamW
from transit_cli.training.schedule import learning_rate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

    from transit_cli.device.base import Device
    from transit_cli.training.execution.base import Executor
    from transit_cli.training.settings import StepSettings


@dataclass(frozen=True)
class Batch:
    """A micro-batch on the device.

    Attributes:
        inputs: views by name, [B, L] float32, and "scalars" [B, S] where the network takes them.
        targets: [B] float32, 1 for a positive, 0 for a negative; between them after mixing.
    """

    inputs: dict[str, Tensor]
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def rows(self, part: slice) -> Batch:
        """Some of its samples, without copying them."""
        return Batch({name: values[part] for name, values in self.inputs.items()}, self.targets[part])

    def clone(self) -> Batch:
        """A copy in memory of its own."""
        return Batch({name: values.clone() for name, values in self.inputs.items()}, self.targets.clone())

    def copy_(self, other: Batch) -> None:
        """Take the numbers of a batch of the same shape, by one kernel where the device has such."""
        own = [*self.inputs.values(), self.targets]
        torch._foreach_copy_(own, [*(other.inputs[name] for name in self.inputs), other.targets])


class Step:
    """Trains a network by one optimizer step at a time.

    Args:
        network: maps a batch's inputs to logits [B]; it is moved to the device.
        device: where to compute.
        settings: what a step is.
        total_steps: optimizer steps of the whole run, for the schedule.
        processes: those that take each step together.
        augment: changes a micro-batch before it trains, on the device, without waiting for it.

    Attributes:
        steps: optimizer steps taken.
        way: how it runs (`training.execution`); None until the first batch has been seen.
    """

    def __init__(
        self,
        network: nn.Module,
        device: Device,
        settings: StepSettings,
        total_steps: int,
        *,
        processes: ProcessGroup = SINGLE_PROCESS,
        augment: Callable[[Batch], Batch] | None = None,
    ) -> None:
        self.network = network.to(device.torch_device)
        self.device = device
        self.settings = settings
        self.total_steps = total_steps
        self.steps = 0
        self.processes = processes
        self.augment = augment
        self.data_parallel: DataParallel | None = None
        self.executor: Executor | None = None
        self._previous_execution = ""
        self.parameters = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        kind = AdamW if settings.optimizer == "adamw" else Adam
        self.optimizer = kind(
            self.parameters,
            lr=settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            fused=True,  # one kernel for all parameters; the default on MPS is a loop over each of them
        )
        self.precision = precision.resolve(device, settings.precision)
        self.scaler = precision.scaler(device, self.precision)
        self._positive_weight = torch.tensor(settings.positive_weight, device=device.torch_device)

    def step(self, micro_batches: Sequence[Batch], *, prepared: bool = False) -> Tensor:
        """Take one optimizer step over the effective batch that `micro_batches` make together.

        Every micro-batch counts by its number of samples, so that a smaller last one is exact too.

        Args:
            micro_batches: as they come from the feed.
            prepared: whether they have been through `prepared` already.

        Returns:
            The effective batch's mean loss: a scalar on the device, detached, not waited for.
        """
        self.network.train()
        return self._executor_for(micro_batches).run(micro_batches, prepared=prepared)

    def prepared(self, micro_batches: Sequence[Batch]) -> Sequence[Batch]:
        """The micro-batches as they train: augmented, then mixed."""
        if self.augment:
            micro_batches = [self.augment(batch) for batch in micro_batches]
        if self.settings.mixup:
            micro_batches = [mixed(batch, self.settings.mixup) for batch in micro_batches]
        return micro_batches

    def gradients(self, micro_batches: Sequence[Batch]) -> Tensor:
        """Leave the gradients of the mean loss (times the scaler's factor) in `.grad`, and return that mean."""
        return self._executor_for(micro_batches).gradients(micro_batches)

    def _executor_for(self, micro_batches: Sequence[Batch]) -> Executor:
        if not micro_batches:
            raise ValueError("a step needs at least one micro-batch")
        if self.executor is None:
            if self.processes.count > 1 and self.data_parallel is None:
                self.data_parallel = DataParallel(self, micro_batches[0])
            self.executor = selection.choose(self, micro_batches[0], self._previous_execution)
        return self.executor

    def forward(self, batch: Batch) -> Tensor:
        """A micro-batch's mean loss."""
        with precision.autocast(self.device, self.precision):
            return self.loss(self.network(batch.inputs), batch.targets)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean binary cross-entropy of logits [B] against targets [B], in the targets' type, smoothed and weighted."""
        if smoothing := self.settings.label_smoothing:
            targets = targets * (1 - smoothing) + smoothing / 2
        weight = self._positive_weight if self.settings.positive_weight != 1 else None
        return F.binary_cross_entropy_with_logits(logits.to(targets.dtype), targets, pos_weight=weight)

    def update(self) -> None:
        """Unscale and clip the gradients in `.grad`, move the weights, drop the gradients, advance the schedule."""
        self.set_rate()
        self.apply()
        self.steps += 1

    def set_rate(self) -> None:
        """Give the optimizer this step's learning rate; into the tensor that holds it, where it is one."""
        rate = learning_rate(self.settings, self.steps, self.total_steps)
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def apply(self) -> None:
        """Unscale and clip the gradients in `.grad`, move the weights by them, and drop them."""
        if self.settings.clip:
            self.scaler.unscale_(self.optimizer)
            self._clip(self.settings.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def _clip(self, largest: float) -> None:
        """Scale the gradients in `.grad` down to this norm of all of them together, as `clip_grad_norm_` does.

        On a CPU, where reading the norm waits for nothing, gradients that are small enough are left alone.
        """
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        there = self.device.kind == "cpu" and not self.device.can_capture
        if not (there and norm.numpy() <= largest):
            torch.nn.utils.clip_grads_with_norm_(self.parameters, largest, norm)

    def state_dict(self) -> dict[str, Any]:
        """What a step needs to go on, besides the network's weights and the random numbers."""
        optimizer = self.optimizer.state_dict()
        for group in optimizer["param_groups"]:  # what a way made of them is no part of the state
            group |= {"lr": float(group["lr"]), "capturable": False}
        return {
            "steps": self.steps,
            "optimizer": optimizer,
            "scaler": self.scaler.state_dict(),
            "execution": self._previous_execution
            if self.executor is None or self.data_parallel
            else self.executor.name,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state that `state_dict` returned."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.steps = state["steps"]
        self.executor = None  # chosen again at the next step: what it held belonged to the state before
        self._previous_execution = state["execution"]


def mixed(batch: Batch, alpha: float) -> Batch:
    """Each sample mixed with its neighbour in the batch (Zhang et al. 2018, arXiv:1710.09412).

    The share is drawn for each sample from Beta(alpha, alpha), on the CPU: MPS has no such generator. A batch arrives
    shuffled, so that its neighbour is as random a partner as any.
    """
    share = torch.distributions.Beta(alpha, alpha).sample((len(batch),)).to(batch.targets.device, non_blocking=True)

    def mix(values: Tensor) -> Tensor:
        weight = share.view(-1, *[1] * (values.ndim - 1))
        return values * weight + values.roll(1, 0) * (1 - weight)

    return Batch({name: mix(values) for name, values in batch.inputs.items()}, mix(batch.targets))
