"""Train a classifier on a view set: safely, resumably, and ready to evaluate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from transit_cli.command import command
from transit_cli.config import Range
from transit_cli.training.settings import TrainSettings

if TYPE_CHECKING:
    from torch import nn

    from transit_cli.device.base import Device
    from transit_cli.results import Result

app = typer.Typer()


@dataclass(frozen=True, kw_only=True)
class TrainOptions(TrainSettings):
    """Options of `transit train`: its settings, and a batch size that may be found here."""

    batch_size: Annotated[int | Literal["auto"], Range(1, 65_535)] = 64  # type: ignore[assignment]
    "Samples that pass the network at once: the micro-batch. auto probes for the best one, once a machine and network."


@command(app, TrainOptions)
def train(settings: TrainSettings) -> Result:
    """Train a classifier on a view set: safely, resumably, and ready to evaluate.

    Stop it at any moment: transit train --resume RUN goes on as if it had never stopped.
    """
    from transit_cli.training import sanity, train
    from transit_cli.training.distributed import require_single_process

    if settings.overfit or settings.dry_run:
        require_single_process("--overfit" if settings.overfit else "--dry-run", "the same command without torchrun")
    if cast("int | str", settings.batch_size) == "auto":
        require_single_process("--batch-size auto", "transit probe-batch, then --batch-size with its answer")
        from transit_cli.tuning.auto import best_batch

        settings = settings.replace(batch_size=best_batch(settings))
    if settings.overfit:
        return sanity.overfit(settings)
    if settings.dry_run:
        return sanity.dry_run(settings)
    if settings.on_unsupported == "error":
        return train.train(settings)
    from transit_cli.operators.fallback import CpuFallback

    fallbacks: list[CpuFallback] = []

    def guard(network: nn.Module, device: Device) -> None:
        fallbacks.append(CpuFallback(device))
        fallbacks[-1].guard(network)

    result = train.train(settings, guard)
    on_cpu = [site for fallback in fallbacks for site in fallback.report()]
    return replace(result, data={**result.data, "on_cpu": on_cpu})
