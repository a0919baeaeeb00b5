"""What one optimizer step computes: forward, loss, accumulation, unscale, clip, optimizer, schedule.

`training.runner` decides how it is executed. `train`, `probe-batch`, `accumulate`, `profile`, `bench` and
`fallback-test` all run this step: what is probed or profiled is what trains. Nothing in it waits for the device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own convention
from torch import Tensor

from transit_cli.device import precision
from transit_cli.training.optimization.augment import mixup
from transit_cli.training.optimization.optimizer import Adam, AdamW
from transit_cli.training.optimization.schedule import learning_rate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

    from transit_cli.device.base import Device
    from transit_cli.training.batch import Batch
    from transit_cli.training.settings import StepSettings


class OptimizerStep:
    """A network with its loss, optimizer and schedule: the parts of an optimizer step that an executor calls.

    Args:
        network: maps a batch's inputs to logits [B], or [B, C] of several classes; it is moved to the device.
        device: where to compute.
        settings: what a step is.
        total_steps: optimizer steps of the whole run, for the schedule.
        augment: changes a micro-batch before it trains, on the device, without waiting for it.
        class_weights: the weight of each class's samples in the loss of a network of several classes.

    Attributes:
        global_step: optimizer steps taken.
        parameters: those of the network that are trained.
        positive_weight: the weight of positives in the binary loss, a scalar on the device.
    """

    def __init__(
        self,
        network: nn.Module,
        device: Device,
        settings: StepSettings,
        total_steps: int,
        *,
        augment: Callable[[Batch], Batch] | None = None,
        class_weights: Sequence[float] = (),
    ) -> None:
        self.network = network.to(device.torch_device)
        self.device = device
        self.settings = settings
        self.total_steps = total_steps
        self.global_step = 0
        self.augment = augment
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
        self.positive_weight = torch.tensor(settings.positive_weight, device=device.torch_device)
        self._class_weights = torch.tensor(class_weights, device=device.torch_device) if class_weights else None

    def augment_batches(self, micro_batches: Sequence[Batch]) -> Sequence[Batch]:
        """The micro-batches as they train: augmented, then mixed up."""
        if self.augment:
            micro_batches = [self.augment(batch) for batch in micro_batches]
        if self.settings.mixup:
            micro_batches = [mixup(batch, self.settings.mixup) for batch in micro_batches]
        return micro_batches

    def forward(self, batch: Batch) -> Tensor:
        """A micro-batch's mean loss."""
        with precision.autocast(self.device, self.precision):
            return self.loss(self.network(batch.inputs), batch.targets)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy of logits against targets, in the targets' type, smoothed and weighted.

        Logits [B] against targets [B] are binary; logits [B, C] against probabilities [B, C] are of several classes.
        """
        smoothing = self.settings.label_smoothing
        if targets.ndim == 2:
            targets = targets * (1 - smoothing) + smoothing / targets.shape[1] if smoothing else targets
            weighted = targets if self._class_weights is None else targets * self._class_weights
            return -(weighted * F.log_softmax(logits.to(targets.dtype), dim=1)).sum() / len(targets)
        if smoothing:
            targets = targets * (1 - smoothing) + smoothing / 2
        weight = self.positive_weight if self.settings.positive_weight != 1 else None
        return F.binary_cross_entropy_with_logits(logits.to(targets.dtype), targets, pos_weight=weight)

    def update(self) -> None:
        """Set the learning rate, apply the gradients in `.grad`, and count the step."""
        self.set_learning_rate()
        self.apply_gradients()
        self.global_step += 1

    def set_learning_rate(self) -> None:
        """Give the optimizer this step's learning rate; a rate held in a tensor is filled in place."""
        rate = learning_rate(self.settings, self.global_step, self.total_steps)
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def apply_gradients(self) -> None:
        """Unscale and clip the gradients in `.grad`, update the weights, and clear the gradients."""
        if self.settings.clip:
            self.scaler.unscale_(self.optimizer)
            self._clip(self.settings.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def _clip(self, max_norm: float) -> None:
        """Scale the gradients in `.grad` down to this total norm, as `clip_grad_norm_` does.

        On a CPU, where reading the norm waits for nothing, gradients below it are not touched.
        """
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        readable = self.device.kind == "cpu" and not self.device.can_capture
        if not (readable and norm.numpy() <= max_norm):
            torch.nn.utils.clip_grads_with_norm_(self.parameters, max_norm, norm)

    def state_dict(self) -> dict[str, Any]:
        """What the step needs to resume, except the network's weights and the states of the random generators."""
        optimizer = self.optimizer.state_dict()
        for group in optimizer["param_groups"]:  # an executor may have replaced these
            group |= {"lr": float(group["lr"]), "capturable": False}
        return {"steps": self.global_step, "optimizer": optimizer, "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a state that `state_dict` returned."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.global_step = state["steps"]
