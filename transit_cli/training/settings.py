"""Settings of a training step and of a training run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from transit_cli.config import Flag, Panel, Positional, Range, Settings
from transit_cli.memory.settings import MemorySettings
from transit_cli.options import MAX_MEMBERS, OUT, DeviceSettings, ExecutionSettings, InputSettings


@dataclass(frozen=True, kw_only=True)
class OptimisationSettings(ExecutionSettings):
    """Everything but the batch size that changes what one optimizer step computes."""

    panel: ClassVar[str] = "Optimisation"

    accumulate: Annotated[int, Range(1, 1_000_000)] = 1
    "Micro-batches per optimizer step."

    optimizer: Literal["adamw", "adam"] = "adamw"
    "Optimizer; fused where the device has it."

    learning_rate: Annotated[float, Range(0, open="left")] = 2e-3
    "Peak learning rate."

    betas: tuple[float, float] = (0.9, 0.999)
    "The optimizer's two averaging constants."

    weight_decay: Annotated[float, Range(0)] = 1e-4
    "Weight decay, decoupled from the gradient for adamw."

    schedule: Literal["onecycle", "cosine", "constant"] = "onecycle"
    "Learning rate: onecycle, cosine (to 0) or constant."

    warmup_steps: Annotated[int | None, Range(0)] = None
    "Optimizer steps until the peak; by default 10 % for onecycle, none for the others."

    clip: Annotated[float, Range(0)] = 1.0
    "Largest norm of all gradients; 0 does not clip."

    label_smoothing: Annotated[float, Range(0, 1, open="right"), Panel("Augmentation")] = 0.0
    "Share of every target moved to 1/2."

    mixup: Annotated[float, Range(0), Panel("Augmentation")] = 0.0
    "Alpha of the Beta distribution that mixes pairs of samples; 0 mixes none."

    positive_weight: Annotated[float, Range(0, open="left")] = 1.0
    "Weight of positive samples in the loss."

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(0 <= beta < 1 for beta in self.betas):
            self.refuse("betas", "two numbers, 0 <= x < 1")


@dataclass(frozen=True, kw_only=True)
class StepSettings(OptimisationSettings):
    """Everything that changes what one optimizer step computes; every command that runs a step has these options."""

    panel: ClassVar[str] = "Optimisation"

    batch_size: Annotated[int, Range(1, 65_535)] = 64
    "Samples per forward pass (micro-batch)."

    @property
    def effective_batch(self) -> int:
        """Samples per optimizer step."""
        return self.batch_size * self.accumulate


@dataclass(frozen=True, kw_only=True)
class DataSettings(InputSettings):
    """What a network is trained on."""

    panel: ClassVar[str] = "Data"

    viewset: Annotated[Path | None, Positional("VIEWSET")] = None
    "View set to train on; by default a simulated one."

    target: Annotated[tuple[str, ...], Flag(metavar="LABEL,...")] = ("PC",)
    "Labels that count as positive, as in PC,EB; classes tells all labels apart."

    scalar_scaling: Literal["robust", "quantile"] = "robust"
    "Scalars: robust (median and MAD), or quantile (to a normal distribution)."

    unit_depth: Annotated[tuple[str, ...], Flag(metavar="VIEW,...")] = ()
    "Views to divide by their own depth: sets differ in it for secondary, odd and even ones."

    loader: Literal["auto", "device", "stream"] = "auto"
    "device keeps all views there, stream reads the disk; auto streams large sets."

    workers: Annotated[int | None, Range(0, 1024)] = None
    "Processes that read ahead when streaming; by default one per efficiency core, or up to 4."

    folds: Annotated[int, Range(0, MAX_MEMBERS)] = 0
    "Cross-validate with so many parts, by star, of train and val together."


@dataclass(frozen=True, kw_only=True)
class AugmentationSettings(Settings):
    """How samples are varied while training."""

    panel: ClassVar[str] = "Augmentation"

    time_reversal: bool = True
    "Reverse half of the samples in time."

    shift: Annotated[float, Range(0, 1, open="right")] = 0.0
    "Largest random shift of a view, in bins."

    noise: Annotated[float, Range(0)] = 0.5
    "Largest noise, in units of the set's."

    drop_bins: Annotated[float, Range(0, 1, open="right")] = 0.0
    "Share of bins emptied at random."


@dataclass(frozen=True, kw_only=True)
class RunSettings(DataSettings, AugmentationSettings, OptimisationSettings, DeviceSettings, MemorySettings):
    """Everything of a training run but its batch size."""

    panel: ClassVar[str] = "Run"
    first: ClassVar[tuple[str, ...]] = (
        "out",
        "resume",
        "preset",
        "target",
        "network",
        "epochs",
        "batch_size",
        "learning_rate",
        "init",
        "members",
        "seed",
        "device",
    )

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # The guide's loop in 20 epochs to 2e-3, with augmentation, period and duration (docs/results/accuracy.md).
        "default": {},
        # The guide's loop to the letter: OneCycle to 5e-3, weight decay 1e-4, clip 1.0, 50 epochs, views alone.
        "guide": {"learning_rate": 5e-3, "epochs": 50, "scalars": (), "time_reversal": False, "noise": 0.0},
        # Its settings for unstable training.
        "stable": {
            "learning_rate": 1e-3,
            "schedule": "cosine",
            "warmup_steps": 500,
            "weight_decay": 0.01,
            "label_smoothing": 0.1,
            "mixup": 0.2,
        },
        # Only the output is learned, on top of what simulation has taught (docs/results/accuracy.md).
        "few-labels": {
            "init": "pretrained",
            "freeze": True,
            "members": 5,
            "epochs": 15,
            "batch_size": 16,
            "learning_rate": 1e-3,
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

    out: Annotated[Path | None, OUT] = None
    "Folder of the run; by default a new one in runs/."

    resume: Annotated[Path | None, Flag(metavar="RUN")] = None
    "Resume this run, with its own options."

    preset: Literal["default", "guide", "stable", "few-labels", "paper"] = "default"
    "Values of other options: see docs/training.md."

    epochs: Annotated[int, Range(1, 1_000_000), Panel("Optimisation")] = 20
    "Passes over the training rows."

    seed: int = 0
    "Seed of network 1; others count up."

    init: Annotated[str, Flag(metavar="RUN|FILE")] = ""
    "Begin from saved networks: pretrained, a RUN or a model.safetensors."

    freeze: bool = False
    "With --init: train the output layer alone."

    members: Annotated[int, Range(1, MAX_MEMBERS)] = 1
    "Networks of different seeds to average."

    processes: Annotated[int | None, Range(1), Panel("Device")] = None
    "Networks to train at the same time: in a process each on a CPU, by default one per core where it pays; on CUDA, 4."

    class_weighting: Annotated[Literal["none", "balanced"], Panel("Optimisation")] = "none"
    "balanced gives each class the weight of the largest; or none."

    ema: Annotated[float, Range(0, 1, open="right"), Panel("Optimisation")] = 0.0
    "Decay per step of averaged weights; 0 for none."

    patience: Annotated[int, Range(0), Panel("Optimisation")] = 0
    "Epochs without a better validation AP before it stops and keeps the best; 0 never stops."

    checkpoint_minutes: Annotated[float, Range(0, open="left"), Flag(metavar="N")] = 5.0
    "Minutes between checkpoints."

    keep_checkpoints: Annotated[int, Range(1)] = 3
    "Checkpoints to keep, besides the best."

    empty_cache_epochs: Annotated[int, Range(0), Panel("Device")] = 10
    "Epochs between releases of cached memory; 0 does it only under memory pressure."

    calibrate: bool = True
    "Fit a calibration of the scores on the validation rows, or out of fold."

    tensorboard: bool = False
    "Also write TensorBoard event files."

    on_unsupported: Annotated[Literal["error", "fallback"], Panel("Device")] = "error"
    "error stops if the device lacks an operator; fallback runs its layer on the CPU."

    dry_run: bool = False
    "Run two batches through everything; keep nothing."

    overfit: bool = False
    "Check that one batch can be overfitted, and stop."

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.folds == 1:
            self.refuse("folds", "0, or at least 2")
        if self.freeze and not self.init:
            self.refuse("freeze", "used with --init, which what is frozen comes from", "add --init pretrained")


@dataclass(frozen=True, kw_only=True)
class TrainSettings(RunSettings, StepSettings):
    """A training run."""


@dataclass(frozen=True, kw_only=True)
class TrainOptions(RunSettings):
    """Options of `transit train`: those of a run, whose batch size may be left to a probe."""

    panel: ClassVar[str] = "Optimisation"

    batch_size: Annotated[int | Literal["auto"], Range(1, 65_535)] = 64
    "Samples per forward pass (micro-batch); auto probes for the best."

    def with_batch_size(self, batch_size: int) -> TrainSettings:
        """The settings of the run with this batch size."""
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        return TrainSettings(**(values | {"batch_size": batch_size}))
