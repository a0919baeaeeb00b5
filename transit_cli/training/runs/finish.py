"""The results of a run: the trained networks, the scores of held-out rows, and the summary."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli import __version__, console
from transit_cli.data.viewset import write_table
from transit_cli.model import saved
from transit_cli.model.calibration import log_probabilities
from transit_cli.model.card import Card, ScalarCard
from transit_cli.results import Result, Table
from transit_cli.training.distributed import under_torchrun
from transit_cli.training.loading.samples import assign_folds
from transit_cli.training.processes.side_by_side import fit_count
from transit_cli.training.runs import bench_record, environment, ranking_metrics
from transit_cli.training.runs.calibrate import fit_calibrations
from transit_cli.training.runs.initial import describe
from transit_cli.training.runs.ranking_metrics import calibration_error
from transit_cli.training.runs.run import SCORES, figure, seeds_text
from transit_cli.utils.files import atomic_output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transit_cli.model.calibration import Calibrations
    from transit_cli.training.plan import Plan
    from transit_cli.training.runs.context import FitResult
    from transit_cli.training.runs.run import Run


def finish(plan: Plan, run: Run, fitted: Sequence[FitResult]) -> Result:
    """Write the scores and the trained networks, and measure them on the rows held out from them."""
    settings, viewset = plan.settings, plan.viewset
    rows, logits, folds = held_out_scores(fitted)
    outputs = len(plan.classes) or 1
    raw = np.exp(log_probabilities(logits, outputs))
    found = ranking_metrics.ranking(plan.targets[rows], _ensemble_logits(raw.mean(axis=0), outputs))
    seeds = over_seeds(plan.targets[rows], logits)
    truth = (plan.targets[rows].argmax(axis=1) if plan.classes else plan.targets[rows]).astype(np.int64)
    fitted_on = fit_calibrations(viewset, rows, logits, truth, settings.folds) if settings.calibrate else None
    probabilities = _calibrated(plan, rows, logits, fitted_on) if fitted_on else raw
    positive = [label in plan.target for label in plan.classes] if plan.classes else [False, True]
    members = probabilities[..., positive].sum(axis=-1)
    score = members.mean(axis=0)
    found["calibration_error"] = calibration_error(np.isin(viewset.labels[rows], plan.target), score)
    table: dict[str, Any] = {"row": rows}
    table |= {name: viewset.tces[name][rows] for name in ("star", "signal", "label", "split")}
    table |= {"fold": folds, "score": score, "spread": members.std(axis=0)}
    for place, label in enumerate(plan.classes):
        table[f"probability_{label}"] = probabilities[..., place].mean(axis=0)
    with atomic_output(run.path / SCORES) as temporary:
        write_table(temporary, table)
    card = Card(
        network=_card_name(settings.network),
        views=dict(plan.views),
        unit_depth=tuple(name for name in settings.unit_depth if name in plan.views),
        scalars=tuple(ScalarCard(**vars(scaling)) for scaling in plan.scalings),
        target=plan.target,
        classes=plan.classes,
        members=len(fitted),
        folds=tuple(fit.task.fold for fit in fitted if fit.task.fold is not None),
        trained_on=f"{len(fitted[0].task.train)} signals of {viewset.path.name}"
        + (" (simulated)" if viewset.simulated else ""),
        simulated=viewset.simulated,
        calibration=fitted_on.document() if fitted_on else {},
        initialised=describe(plan.initial, plan.taken) if plan.initial else "",
        figures={f"validation_{name}": value for name, value in found.items()} | seeds,
        transit=__version__,
    )
    saved.save(run.path / saved.FILE, [fit.state for fit in fitted], card)
    epochs = run.history()
    environment.record_execution(run.path, (one.execution for one in epochs), (one.precision for one in epochs))
    return compare_with_bench(_result(plan, run, fitted, found, seeds), plan, run)


def over_seeds(targets: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """Mean, standard deviation and range over the members, which differ in their seeds; {} for one member.

    Args:
        targets: [R], or [R, C] of several classes.
        logits: of held-out rows by each member, [M, R] or [M, R, C].
    """
    if len(logits) < 2:
        return {}
    each = [ranking_metrics.ranking(targets, member) for member in logits]
    found: dict[str, float] = {"seeds": len(logits)}
    for name in ("average_precision", "roc_auc"):
        values = np.array([metrics[name] for metrics in each])
        found |= {f"seed_{name}_mean": float(values.mean()), f"seed_{name}_std": float(values.std(ddof=1))}
        found |= {f"seed_{name}_min": float(values.min()), f"seed_{name}_max": float(values.max())}
    return found


def _ensemble_logits(probabilities: np.ndarray, outputs: int) -> np.ndarray:
    """Logits [R], or [R, C] of classes, of the members' mean probabilities [R, 2] or [R, C]."""
    logarithms = np.log(probabilities.clip(1e-12))
    return logarithms[:, 1] - logarithms[:, 0] if outputs == 1 else logarithms


def _calibrated(plan: Plan, rows: np.ndarray, logits: np.ndarray, fitted_on: Calibrations) -> np.ndarray:
    """Probabilities [M, R, C] of held-out rows, each calibrated without its part of the stars."""
    logarithms = log_probabilities(logits, len(plan.classes) or 1)
    part = assign_folds(plan.viewset, rows, len(fitted_on.parts))
    found = np.empty_like(logarithms)
    for number, calibration in enumerate(fitted_on.parts):
        found[:, part == number] = calibration.apply(logarithms[:, part == number])
    return found


def held_out_scores(fitted: Sequence[FitResult]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, their logits by the M members that were not trained on them, and their fold (-1 without folds).

    Logits are [M, R], or [M, R, C] of several classes.
    With folds, each row is scored only by the networks of its own fold.
    """
    parts: dict[int | None, list[FitResult]] = {}
    for fit in fitted:
        parts.setdefault(fit.task.fold, []).append(fit)
    rows = np.concatenate([fits[0].rows for fits in parts.values()])
    logits = np.concatenate([np.stack([fit.logits for fit in fits]) for fits in parts.values()], axis=1)
    folds = np.concatenate([np.full(len(fits[0].rows), -1 if fold is None else fold) for fold, fits in parts.items()])
    order = np.argsort(rows)
    return rows[order], logits[:, order], folds[order]


def _result(
    plan: Plan, run: Run, fitted: Sequence[FitResult], found: dict[str, float], seeds: dict[str, float]
) -> Result:
    settings = plan.settings
    rows = [
        {
            "fit": fit.task.name,
            "epochs": fit.epochs,
            "kept_epoch": fit.kept_epoch,
            "validation_average_precision": fit.metrics["average_precision"],
            "validation_roc_auc": fit.metrics["roc_auc"],
            "seconds": fit.seconds,
            "samples_per_second": fit.samples / fit.seconds if fit.seconds else None,
        }
        for fit in fitted
    ]
    table = Table(
        ("fit", "epochs", "kept", "AP", "ROC AUC", "time", "samples/s"),
        [
            (
                row["fit"],
                row["epochs"],
                row["kept_epoch"],
                figure(row["validation_average_precision"]),
                figure(row["validation_roc_auc"]),
                console.duration(row["seconds"]),
                f"{row['samples_per_second'] or 0:,.0f}",
            )
            for row in rows
        ],
        note=_note(plan),
    )
    held_out = "out-of-fold" if settings.folds else "validation"
    simulated = ", simulated data" if plan.viewset.simulated else ""
    measured = f"average precision {figure(found['average_precision'])}"
    if math.isnan(found["average_precision"]):
        measured = "average precision is not measured: the held-out rows lack positives or negatives"
    verdict = f"{run.path}: {held_out} {measured} ({len(fitted)} network{'s' * (len(fitted) > 1)}{simulated})"
    if seeds:
        verdict += f"\none network ({seeds['seeds']} seeds): {seeds_text(seeds)}"
    verdict += f"\nnext: transit evaluate {run.path}"
    data = {
        "out": run.path,
        "average_precision": found["average_precision"],
        "roc_auc": found["roc_auc"],
        "loss": found["loss"],
        **seeds,
        "calibration_error": found["calibration_error"],
        "classes": list(plan.classes),
        "init": plan.initial.name if plan.initial else "",
        "taken": dict(plan.taken),
        "held_out": held_out,
        "target": settings.target,
        "viewset": plan.viewset.path,
        "simulated": plan.viewset.simulated,
        "network": settings.network,
        "parameters": sum(value.numel() for value in fitted[0].state.values()),
        "seconds": sum(fit.seconds for fit in fitted),
        "fits": rows,
    }
    return Result(data, [table], verdict)


def _note(plan: Plan) -> str:
    note = "AP: average precision on "
    note += "the fold held out from each network" if plan.settings.folds else "validation rows"
    note += f", mean over {', '.join(plan.classes)}" if plan.classes else ""
    return note + ("." if plan.settings.folds else ", which did not influence training unless --patience is given.")


def compare_with_bench(result: Result, plan: Plan, run: Run) -> Result:
    """Add the median epoch's share of the speed that `transit bench` has measured on this machine, if it has."""
    settings = plan.settings
    work = bench_record.RecordKey(settings.network, plan.views, settings.batch_size, plan.precision)
    benched = bench_record.benched(work, plan.device)
    speeds = [epoch.samples_per_second for epoch in run.history() if epoch.micro_batch == settings.batch_size]
    several = under_torchrun() or fit_count(plan, len(plan.tasks)) > 1
    if benched is None or not speeds or several:  # a benchmark measures one network in one process
        return result
    speed = statistics.median(speeds)
    line = f"\nspeed: {speed:,.0f} samples/s, {speed / benched:.0%} of what `transit bench` reached here"
    data = {**result.data, "bench_samples_per_second": benched, "bench_share": speed / benched}
    head, _, tail = result.verdict.partition("\n")
    return replace(result, data=data, verdict=f"{head}{line}\n{tail}")


def _card_name(network: str) -> str:
    file, colon, factory = network.rpartition(":")
    return f"{Path(file).name}:{factory}" if colon else network
