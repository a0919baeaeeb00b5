"""`transit train`: from settings to a run, one fit after another."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli import __version__, console
from transit_cli.data import feed
from transit_cli.data.feed import Batching, Scaling
from transit_cli.data.viewset import ViewSet, write_table
from transit_cli.device.select import select
from transit_cli.memory.limit import MemoryLimit
from transit_cli.model import saved
from transit_cli.results import ExitCode, Result, Table, TransitError
from transit_cli.training import metrics
from transit_cli.training import run as runs
from transit_cli.training.awake import awake
from transit_cli.training.fit import Fit, Fitted, Task
from transit_cli.training.interrupt import Deferred
from transit_cli.training.screen import screen

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from transit_cli.training.run import Run
    from transit_cli.training.settings import TrainSettings


def train(settings: TrainSettings) -> Result:
    """Train the networks that the settings ask for, and write a run.

    Raises:
        TransitError: settings, view set, network or machine will not do; what was trained so far can be resumed.
        KeyboardInterrupt: a signal came; its argument is the command that goes on.
    """
    run: Run | None = None
    if settings.resume:
        run, settings = runs.reopen(settings)
    viewset = ViewSet.open(settings.viewset or _embedded())
    if run:
        runs.check_viewset(run, viewset)
    scalings, tasks = plan(settings, viewset)
    device = select(settings.device)
    limit = MemoryLimit(device, settings.memory_limit)
    run = run or runs.create(settings, viewset, device)
    _keep_source(settings, run)
    steps = sum(Batching(len(task.train), settings.batch_size, settings.accumulate).steps for task in tasks)
    with _resumable(run), awake(), Deferred() as signals, screen(steps * settings.epochs, settings.epochs) as shown:
        fitted = [Fit(task, settings, device, run, shown, limit, signals).train() for task in tasks]
    return finish(settings, run, viewset, scalings, fitted)


def plan(settings: TrainSettings, viewset: ViewSet) -> tuple[list[Scaling], list[Task]]:
    """What to train: each member, and with folds each member on each fold. The test split is not among the rows."""
    lengths = feed.inputs_of(viewset, settings.views)
    target = feed.targets(viewset, settings.target)
    among = feed.rows(viewset, ("train", "val"))
    learned = among if settings.folds else feed.rows(viewset, ("train",))
    scalings = [Scaling.measure(viewset, column, learned) for column in settings.scalars]
    examples = feed.read(viewset, among, tuple(lengths), scalings, target)
    if settings.folds:
        part = feed.folds(viewset, among, settings.folds)
        held_out = [(fold, part == fold) for fold in range(settings.folds)]
    else:
        held_out = [(None, viewset.splits[among] == "val")]
    tasks = []
    for fold, outside in held_out:
        training, validation = examples.subset(np.flatnonzero(~outside)), examples.subset(np.flatnonzero(outside))
        feed.check_classes(viewset, training, settings.target, "training" if fold is None else f"fold {fold} training")
        for member in range(settings.members):
            name = f"member-{member}" if fold is None else f"fold-{fold}-member-{member}"
            seed = settings.seed + member + (0 if fold is None else 1000 * fold)
            tasks.append(Task(name, member, fold, seed, training, validation))
    return scalings, tasks


def finish(
    settings: TrainSettings,
    run: Run,
    viewset: ViewSet,
    scalings: Sequence[Scaling],
    fitted: Sequence[Fitted],
) -> Result:
    """Write the scores and the finished networks, and say how good they are on the rows held out from them."""
    rows, logits, folds = held_out_scores(fitted)
    target = feed.targets(viewset, settings.target)[rows]
    probabilities = 1 / (1 + np.exp(-logits))
    score = probabilities.mean(axis=0)
    found = metrics.ranking(target, np.log(score.clip(1e-12)) - np.log((1 - score).clip(1e-12)))
    table: dict[str, Any] = {"row": rows}
    table |= {name: viewset.tces[name][rows] for name in ("star", "signal", "label", "split")}
    table |= {"fold": folds, "score": score, "spread": probabilities.std(axis=0)}
    write_table(run.path / runs.SCORES, table)
    card = saved.Card(
        network=_card_name(settings.network),
        views=feed.inputs_of(viewset, settings.views),
        scalars=[vars(scaling) for scaling in scalings],
        target=settings.target,
        members=len(fitted),
        folds=[fit.task.fold for fit in fitted if fit.task.fold is not None],
        trained_on=f"{len(fitted[0].task.train)} signals of {viewset.path.name}"
        + (" (simulated)" if viewset.simulated else ""),
        simulated=viewset.simulated,
        figures={f"validation_{name}": value for name, value in found.items()},
        transit=__version__,
    )
    saved.save(run.path / saved.FILE, [fit.state for fit in fitted], card)
    return _result(settings, run, viewset, fitted, found)


def held_out_scores(fitted: Sequence[Fitted]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, the logits [M, R] of the M members that were not trained on each, and its fold (-1 where there are none).

    With folds, each row is scored by the networks of its own fold alone.
    """
    parts: dict[int | None, list[Fitted]] = {}
    for fit in fitted:
        parts.setdefault(fit.task.fold, []).append(fit)
    rows = np.concatenate([fits[0].task.validation.rows for fits in parts.values()])
    logits = np.concatenate([np.stack([fit.logits for fit in fits]) for fits in parts.values()], axis=1)
    folds = np.concatenate(
        [np.full(len(fits[0].task.validation), -1 if fold is None else fold) for fold, fits in parts.items()]
    )
    order = np.argsort(rows)
    return rows[order], logits[:, order], folds[order]


def _result(
    settings: TrainSettings,
    run: Run,
    viewset: ViewSet,
    fitted: Sequence[Fitted],
    found: dict[str, float],
) -> Result:
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
                f"{row['validation_average_precision']:.4f}",
                f"{row['validation_roc_auc']:.4f}",
                console.duration(row["seconds"]),
                f"{row['samples_per_second'] or 0:,.0f}",
            )
            for row in rows
        ],
        note="AP: average precision on validation rows, which chose nothing unless --patience is given."
        if not settings.folds
        else "AP: average precision on the fold that each network has not seen.",
    )
    held_out = "out-of-fold" if settings.folds else "validation"
    simulated = ", simulated data" if viewset.simulated else ""
    verdict = (
        f"{run.path}: {held_out} average precision {found['average_precision']:.4f}"
        f" ({len(fitted)} network{'s' if len(fitted) > 1 else ''}{simulated})\nnext: transit evaluate {run.path}"
    )
    data = {
        "run_dir": run.path,
        "average_precision": found["average_precision"],
        "roc_auc": found["roc_auc"],
        "loss": found["loss"],
        "held_out": held_out,
        "target": settings.target,
        "viewset": viewset.path,
        "simulated": viewset.simulated,
        "network": settings.network,
        "parameters": sum(value.numel() for value in fitted[0].state.values()),
        "seconds": sum(fit.seconds for fit in fitted),
        "fits": rows,
    }
    return Result(data, [table], verdict)


@contextmanager
def _resumable(run: Run) -> Iterator[None]:
    """An interrupt names the command that goes on."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        interrupt.args = (f"transit train --resume {run.path}",)
        raise


def _keep_source(settings: TrainSettings, run: Run) -> None:
    """A person's own network goes into the run's folder: it has to be there to use what was trained."""
    if ":" in settings.network:
        source = Path(settings.network.rpartition(":")[0]).expanduser()
        if source.is_file():
            shutil.copyfile(source, run.path / source.name)


def _card_name(network: str) -> str:
    file, colon, factory = network.rpartition(":")
    return f"{Path(file).name}:{factory}" if colon else network


def _embedded() -> Path:
    raise TransitError(
        "no view set is given",
        wanted="a folder that `transit data` wrote",
        fix="transit train VIEWSET",
        exit_code=ExitCode.USAGE,
        code="viewset-missing",
    )
