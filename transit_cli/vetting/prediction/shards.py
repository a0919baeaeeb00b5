"""`transit predict` in shards: each job scores a part of the signals, and the last one writes the table of all.

    OUT/shard-00012-of-00400/scores.csv   the signals of a shard
    OUT/shard-00012-of-00400/shard.json   what it was made from, and counts
    OUT/scores.csv                        the table of all, as one process writes it
    OUT/shards.json                       the shards that it was made from

A view set is divided between the chunks in which it is scored, so that the last digits are those of one process; a
catalog by its stars, which are folded into a view set in shards.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from transit_cli import __version__, console
from transit_cli.data.prepare import in_shards
from transit_cli.data.shards.plan import file_checksum
from transit_cli.data.shards.shard import Shard, all_shards
from transit_cli.data.viewset import ViewSet, write_table
from transit_cli.model import saved
from transit_cli.parallel import each
from transit_cli.results import ExitCode, Result, TransitError
from transit_cli.training.inference import CHUNK
from transit_cli.utils import remote
from transit_cli.utils.files import atomic_output, locked
from transit_cli.utils.packages import check_installed
from transit_cli.vetting.prediction import assembly
from transit_cli.vetting.prediction.assembly import ABOUT
from transit_cli.vetting.prediction.result import prediction_result
from transit_cli.vetting.prediction.score_table import SCORES
from transit_cli.vetting.prediction.scoring import is_viewset, open_ensemble, scored_table
from transit_cli.vetting.scored_signals import VIEWS, from_rows, from_shard, prepare_settings

if TYPE_CHECKING:
    from pathlib import Path

    from transit_cli.data.shards.prepare_shards import ShardedPrepare
    from transit_cli.vetting.ensemble import Ensemble
    from transit_cli.vetting.scored_signals import Signals
    from transit_cli.vetting.settings import PredictSettings


@dataclass(frozen=True)
class ShardedPredict:
    """A `predict` that is done in shards; picklable.

    Attributes:
        settings: of the command.
        run: the run, None for the network that comes with transit.
        path: the view set or the catalog.
        out: the output folder.
        made_from: the input, the networks and the options, as JSON types.
    """

    settings: PredictSettings
    run: Path | None
    path: Path
    out: Path
    made_from: str

    def shard(self, shard: Shard) -> dict[str, Any]:
        """One shard, as it is there or made now: the content of its shard.json."""
        folder = self.out / shard.name
        if not remote.exists(folder / ABOUT):
            with remote.staged(folder) as here, locked(here):
                if not here.exists():
                    self._write(shard, here)
        about = assembly.about(self.out, shard)
        if about["made_from"] != self.made_from:
            raise TransitError(
                f"{folder} was made from another input, run or other options",
                wanted="the same view set or catalog, run and options for every shard",
                fix=f"give another --out, or remove {self.out}",
                code="output-exists",
            )
        return about

    def _write(self, shard: Shard, folder: Path) -> None:
        ensemble = _ensemble(self)
        with atomic_output(folder) as temporary:
            temporary.mkdir()
            signals, folded = self._signals(ensemble, shard, temporary)
            table = scored_table(ensemble, signals, self.settings)
            write_table(temporary / SCORES, table)
            errors = table.text("error")
            about = {
                "shard": str(shard),
                "made_from": self.made_from,
                "rows": len(signals),
                "with_views": folded,
                "errors": int((errors.values != "")[errors.codes].sum()),
            }
            (temporary / ABOUT).write_text(json.dumps(about, indent=1), encoding="utf-8")

    def _signals(self, ensemble: Ensemble, shard: Shard, folder: Path) -> tuple[Signals, int]:
        """The signals of a shard, and the number of them that have views."""
        if not is_viewset(self.path):
            signals = from_shard(self._prepare(ensemble), shard, folder, check=self.settings.check_periods)
            return signals, len(next(iter(signals.views.values())))
        viewset = ViewSet.open(self.path)
        chunks = shard.part(-(-len(viewset) // CHUNK))
        part = slice(chunks.start * CHUNK, min(chunks.stop * CHUNK, len(viewset)))
        part = slice(min(part.start, part.stop), part.stop)
        return from_rows(viewset, part, dropped=shard.number == shard.count), part.stop - part.start

    def _prepare(self, ensemble: Ensemble) -> ShardedPrepare:
        assert self.settings.light_curves is not None
        lengths = ensemble.card.views
        return in_shards(
            prepare_settings(self.path, self.settings.light_curves, self.out / VIEWS, lengths, self.settings.map)
        )

    @property
    def views(self) -> Path:
        """The view set of all signals, once there are all shards."""
        return self.path if is_viewset(self.path) else self.out / VIEWS


@lru_cache(maxsize=1)
def _ensemble(work: ShardedPredict) -> Ensemble:
    return open_ensemble(work.settings, work.run, work.path)


def predict(settings: PredictSettings, run: Path | None, path: Path, out: Path) -> Result:
    """Score one shard of the signals, or all; the last one writes the table and the plots.

    Raises:
        TransitError: the input is one light curve, or the shards that are there are of another input.
    """
    if not is_viewset(path) and not settings.light_curves:
        raise TransitError(
            f"{path} is neither a view set nor a catalog with --light-curves",
            wanted="many signals, to do them in shards",
            fix="add --light-curves FOLDER, or omit --shard and --shards",
            exit_code=ExitCode.USAGE,
            code="setting-missing",
        )
    if settings.scheduler:
        check_installed("distributed", "cluster", "--scheduler")
    work = ShardedPredict(settings, run, path, out, _made_from(settings, run, path))
    if settings.shard:
        shard = Shard.parse(settings.shard)
        assembly.refuse_other_counts(out, shard.count)
        about = work.shard(shard)
        missing = assembly.missing(out, shard.count)
        if not missing and not assembly.is_complete(out, shard.count):
            assembly.assemble(out, shard.count, work.views, settings.max_plots)
        return _shard_result(out, shard, about, missing)
    assembly.refuse_other_counts(out, settings.shards)
    _all(work)
    found = assembly.assemble(out, settings.shards, work.views, settings.max_plots)
    return prediction_result(
        _ensemble(work),
        found.listed,
        (found.count, found.failed),
        found.reasons,
        scores_file=str(out / SCORES),
        prior=settings.prior,
    )


def _all(work: ShardedPredict) -> None:
    settings, count = work.settings, work.settings.shards
    shards = all_shards(count)
    todo = [shard for shard in shards if not remote.exists(work.out / shard.name / ABOUT)]
    if len(todo) < count:
        console.note(f"{count - len(todo):,} of {count:,} shards were done before")
        work.shard(next(shard for shard in shards if shard not in todo))  # the others are compared with it at the end
    try:
        with console.progress("shards", count) as bar:
            bar.update(count - len(todo))
            for shard, _ in each(work.shard, todo, 1, settings.scheduler):
                bar.update(advance=1, status=shard.name)
    except KeyboardInterrupt as interrupt:
        interrupt.args = ("run the same command again to resume; finished shards are kept",)
        raise


def _made_from(settings: PredictSettings, run: Path | None, path: Path) -> str:
    """A digest of all that the scores depend on."""
    content: dict[str, Any] = {"transit": __version__, "target": settings.target, "prior": settings.prior}
    if is_viewset(path):
        content["views"] = ViewSet.open(path).checksums()
    else:
        content |= {"catalog": file_checksum(path), "check_periods": settings.check_periods}
        content |= {"map": list(settings.map)} if settings.map else {}
    if run:
        file = run / saved.FILE if run.is_dir() or (remote.url(run) and not run.suffix) else run
        content["run"] = file_checksum(file) if remote.exists(file) else str(run)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _shard_result(out: Path, shard: Shard, about: dict[str, Any], missing: int) -> Result:
    scored = about["rows"] - about["errors"]
    verdict = f"shard {shard}: {scored:,} of {about['rows']:,} signals scored; "
    verdict += f"{missing:,} shards are missing" if missing else f"{out / SCORES} is complete"
    data = {
        "shard": str(shard),
        "scored": scored,
        "errors": about["errors"],
        "missing_shards": missing,
        "scores_file": str(out / SCORES),
    }
    return Result(data, [], verdict)
