"""Settings of a training step and of a training run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from transit_cli.config import Range, Settings


@dataclass(frozen=True, kw_only=True)
class StepSettings(Settings):
    """Everything that changes what one optimizer step computes; every command that runs a step has these options."""

    batch_size: Annotated[int, Range(1, 65_535)] = 64
    "Samples that pass the network at once: the micro-batch."

    accumulate: Annotated[int, Range(1)] = 1
    "Micro-batches whose gradients make one optimizer step; the effective batch is this many times --batch-size."

    optimizer: Literal["adamw", "adam"] = "adamw"
    "The optimizer; fused where the device has it."

    learning_rate: Annotated[float, Range(0, open="left")] = 5e-3
    "The schedule's peak learning rate."

    betas: tuple[float, ...] = (0.9, 0.999)
    "The optimizer's two averaging constants, each at least 0 and below 1."

    weight_decay: Annotated[float, Range(0)] = 1e-4
    "Weight decay, decoupled from the gradient for adamw."

    schedule: Literal["onecycle", "cosine", "constant"] = "onecycle"
    "Learning rate over optimizer steps: onecycle (peak/25, peak, peak/25,000), cosine to 0, or constant."

    warmup_steps: Annotated[int, Range(0)] | None = None
    "Optimizer steps until the peak; unless given, 10 % of them for onecycle and none for the others."

    clip: Annotated[float, Range(0)] = 1.0
    "Largest norm of the gradients of all parameters; 0 leaves them as they are."

    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    "Arithmetic of the forward pass; auto is what was measured fastest on the device."

    label_smoothing: Annotated[float, Range(0, 1, open="right")] = 0.0
    "Share of every target moved to 1/2."

    mixup: Annotated[float, Range(0)] = 0.0
    "Alpha of the Beta distribution by which pairs of samples are mixed; 0 mixes none."

    positive_weight: Annotated[float, Range(0, open="left")] = 1.0
    "Weight of a positive sample in the loss; a negative one counts 1."

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            self.refuse("betas", "two numbers, 0 <= x < 1")

    @property
    def effective_batch(self) -> int:
        """Samples of one optimizer step."""
        return self.batch_size * self.accumulate
