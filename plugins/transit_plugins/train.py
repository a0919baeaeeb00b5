"""Train a classifier on a view set; stop and resume at any time.

A run that was stopped continues with `transit train --resume RUN` as if it had never stopped.

    transit train my_views --target PC,EB --out runs/triage
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import typer

from transit_cli.command import command
from transit_cli.training.settings import TrainOptions
from transit_cli.utils.packages import collector_paused

if TYPE_CHECKING:
    from torch import nn

    from transit_cli.device.base import Device
    from transit_cli.results import Result

app = typer.Typer()


@command(app, TrainOptions)
def train(options: TrainOptions) -> Result:
    with collector_paused(freeze=True):
        from transit_cli.runs.report import with_report
        from transit_cli.training import sanity, train
        from transit_cli.training.distributed import require_single_process

    if options.overfit or options.dry_run:
        require_single_process("--overfit" if options.overfit else "--dry-run", "the same command without torchrun")
    batch_size = options.batch_size
    if batch_size == "auto":
        require_single_process("--batch-size auto", "transit probe-batch, then --batch-size with its answer")
        from transit_cli.tuning.auto import best_batch

        batch_size = best_batch(options)
    settings = options.with_batch_size(batch_size)
    if settings.overfit:
        return sanity.overfit(settings)
    if settings.dry_run:
        return sanity.dry_run(settings)
    if settings.on_unsupported == "error":
        return with_report(train.train(settings))
    from transit_cli.operators.fallback import CpuFallback

    fallbacks: list[CpuFallback] = []

    def guard(network: nn.Module, device: Device) -> None:
        fallbacks.append(CpuFallback(device))
        fallbacks[-1].guard(network)

    result = with_report(train.train(settings, guard))
    on_cpu = [site for fallback in fallbacks for site in fallback.report()]
    return replace(result, data={**result.data, "on_cpu": on_cpu})
