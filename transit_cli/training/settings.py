"""Settings of a training step and of a training run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from transit_cli.config import Positional, Range, Settings
from transit_cli.memory.settings import MemorySettings


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

    betas: tuple[float, float] = (0.9, 0.999)
    "The optimizer's two averaging constants, each at least 0 and below 1."

    weight_decay: Annotated[float, Range(0)] = 1e-4
    "Weight decay, decoupled from the gradient for adamw."

    schedule: Literal["onecycle", "cosine", "constant"] = "onecycle"
    "Learning rate over optimizer steps: onecycle (peak/25, peak, peak/25,000), cosine to 0, or constant."

    warmup_steps: Annotated[int | None, Range(0)] = None
    "Optimizer steps until the peak; unless given, 10 % of them for onecycle and none for the others."

    clip: Annotated[float, Range(0)] = 1.0
    "Largest norm of the gradients of all parameters; 0 leaves them as they are."

    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    "Arithmetic of the forward pass; auto is what was measured fastest on the device."

    execution: Literal[
        "auto", "eager", "channels-last", "onednn", "single-thread", "replicas", "cuda-graph", "triton"
    ] = "auto"
    "How the step runs, with the same numbers: auto captures it on CUDA, and takes what times best here on a CPU."

    label_smoothing: Annotated[float, Range(0, 1, open="right")] = 0.0
    "Share of every target moved to 1/2."

    mixup: Annotated[float, Range(0)] = 0.0
    "Alpha of the Beta distribution by which pairs of samples are mixed; 0 mixes none."

    positive_weight: Annotated[float, Range(0, open="left")] = 1.0
    "Weight of a positive sample in the loss; a negative one counts 1."

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(0 <= beta < 1 for beta in self.betas):
            self.refuse("betas", "two numbers, 0 <= x < 1")

    @property
    def effective_batch(self) -> int:
        """Samples of one optimizer step."""
        return self.batch_size * self.accumulate


#: What a signal cannot be folded without, so that every set has it. docs/accuracy.md says what they are worth.
DEFAULT_SCALARS = ("period_days", "duration_hours")


@dataclass(frozen=True, kw_only=True)
class TrainSettings(StepSettings, MemorySettings):
    """Options of `transit train`."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # The guide's loop in 20 epochs, with augmentation and the period and duration as inputs (docs/accuracy.md).
        "default": {},
        # The guide's loop to the letter: OneCycle to 5e-3, weight decay 1e-4, clip 1.0, 50 epochs, views alone.
        "guide": {"epochs": 50, "scalars": (), "time_reversal": False, "noise": 0.0},
        # Its settings for unstable training.
        "stable": {
            "learning_rate": 1e-3,
            "schedule": "cosine",
            "warmup_steps": 500,
            "weight_decay": 0.01,
            "label_smoothing": 0.1,
            "mixup": 0.2,
        },
        # Shallue & Vanderburg 2018, section 4: Adam at 1e-5, batch 64, 50 epochs, random reflections, ten averaged.
        "paper": {
            "network": "astronet",
            "epochs": 50,
            "optimizer": "adam",
            "learning_rate": 1e-5,
            "schedule": "constant",
            "weight_decay": 0.0,
            "clip": 0.0,
            "scalars": (),
            "members": 10,
            "noise": 0.0,
        },
    }

    viewset: Annotated[Path | None, Positional("VIEWSET")] = None
    "The view set to learn from; unless given, a small simulated one."

    run_dir: Path | None = None
    "Where the run is written; unless given, a new folder in runs/."

    resume: Path | None = None
    "Go on with the run in this folder, with its own options."

    preset: Literal["default", "guide", "stable", "paper"] = "default"
    "Values for other options: ours, the M4 guide's loop, its remedy for unstable training, or the AstroNet paper's."

    network: str = "two-branch"
    "Network by name (two-branch, astronet, or a plugin's), or my_net.py:build for one of your own."

    target: tuple[str, ...] = ("PC",)
    "Labels that count as positive: PC for vetting, PC,EB for triage."

    views: tuple[str, ...] = ("global", "local")
    "Views that the network sees."

    scalars: tuple[str, ...] = DEFAULT_SCALARS
    "Columns of tces.csv that the network sees too; the default ones where the set has them and the network is ours."

    epochs: Annotated[int, Range(1)] = 20
    "Passes over the training rows."

    seed: int = 0
    "Seed of the first member; the others count up from it."

    members: Annotated[int, Range(1)] = 1
    "Networks to train, which differ by their seed and are averaged."

    folds: Annotated[int, Range(0)] = 0
    "Parts, by star, each of which is held out once from its own network; trains on train and val together."

    class_weighting: Literal["none", "balanced"] = "none"
    "balanced: positives weigh as much in the loss as negatives, whatever their number (times --positive-weight)."

    time_reversal: bool = True
    "Show half of the samples backwards in time."

    shift: Annotated[float, Range(0, 1, open="right")] = 0.0
    "Largest random shift of a view, in bins."

    noise: Annotated[float, Range(0)] = 0.5
    "Largest added noise, in units of the set's own noise level."

    drop_bins: Annotated[float, Range(0, 1, open="right")] = 0.0
    "Share of bins emptied at random."

    ema: Annotated[float, Range(0, 1, open="right")] = 0.0
    "Decay a step of the moving average of weights that is validated and kept; 0 keeps the weights themselves."

    patience: Annotated[int, Range(0)] = 0
    "Epochs without a better validation average precision before it stops and keeps the best; 0 trains to the end."

    loader: Literal["auto", "device", "stream"] = "auto"
    "Where the views are while it trains: on the device, or read from disk as it goes; auto if they fit in memory."

    workers: Annotated[int | None, Range(0)] = None
    "Processes that read ahead when streaming; unless given, one for each efficiency core, or up to 4."

    checkpoint_minutes: Annotated[float, Range(0, open="left")] = 5.0
    "Minutes between checkpoints within an epoch; there is one at the end of each as well."

    keep_checkpoints: Annotated[int, Range(1)] = 3
    "Checkpoints to keep, the best one besides."

    empty_cache_epochs: Annotated[int, Range(0)] = 10
    "Epochs between giving cached device memory back; 0 never does. Under memory pressure it is done at once."

    tensorboard: bool = False
    "Write TensorBoard's event files beside metrics.jsonl."

    device: Literal["auto", "mps", "cuda", "cpu"] = "auto"
    "Where to compute."

    on_unsupported: Literal["error", "fallback"] = "error"
    "Where the device refuses what a layer does: stop, or run that layer on the CPU and say so."

    dry_run: bool = False
    "Pass two batches through everything, keep nothing."

    overfit: bool = False
    "Check that one batch can be learned by heart; keep nothing."

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.folds == 1:
            self.refuse("folds", "0, or at least 2")


def view_lengths(views: str) -> dict[str, int]:
    """The length of each view, from bins written as "2001/201".

    Raises:
        ValueError: they are written otherwise, or fewer than 4.
    """
    lengths = dict(zip(("global", "local"), map(int, views.split("/")), strict=True))
    if min(lengths.values()) < 4:
        raise ValueError("fewer than 4 bins")
    return lengths
