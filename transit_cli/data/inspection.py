"""Contents and invariants of a view set: `transit data info`."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from transit_cli import console
from transit_cli.data.split import SPLITS, split
from transit_cli.data.viewset import LABELS, ViewSet, checksum
from transit_cli.results import ExitCode, Result, Table
from transit_cli.utils import remote

if TYPE_CHECKING:
    from pathlib import Path

#: Rows of views that are read at once.
CHUNK = 4096


class InvariantCheck(NamedTuple):
    """One invariant: "ok", "warn" or "fail", and what was found."""

    name: str
    status: str
    found: str


def info(views: ViewSet, *, check: bool = False, plot: Path | None = None) -> Result:
    """Describe a set; with `check`, verify every invariant (exit 1 if one fails); `plot` draws a page of views."""
    if plot:
        from transit_cli.data.views.plots import check_plot, draw_page

        check_plot(plot)
        draw_page(views, plot)
    labels = counts_by_label(views)
    leaking = leaking_stars(views)
    repeated = repeated_rows(views)
    reasons = Counter(views.dropped["reason"].tolist() if "reason" in views.dropped else ())
    statistics = view_statistics(views)
    checks = verify(views) if check else []
    failed = [item for item in checks if item.status == "fail"]
    data = {
        "path": str(views.path),
        "simulated": views.simulated,
        "tces": len(views),
        "stars": len(views.tces.unique("star")[0]),
        "views": views.lengths,
        "labels": labels,
        "leaking_stars": len(leaking),
        "repeated_rows": repeated,
        "dropped": dict(reasons),
        "view_statistics": statistics,
        "recipe": views.recipe,
        "checks": [item._asdict() for item in checks],
        "plot": str(plot) if plot else None,
    }
    blocks = [_label_table(labels, simulated=views.simulated)]
    blocks.append(
        Table(
            ("view", "bins", "minimum", "median", "maximum", "scatter"),
            [
                (name, views.lengths[name], *(f"{s[key]:.3g}" for key in ("minimum", "median", "maximum", "scatter")))
                for name, s in statistics.items()
            ],
            title="Views",
            note="scatter: median over the TCEs of the robust standard deviation of a view's bins",
        )
    )
    if reasons:
        blocks.append(Table(("dropped", "TCEs"), reasons.most_common(), title="Dropped"))
    if checks:
        blocks.append(Table(("check", "status", "found"), [tuple(item) for item in checks], title="Checks"))
    verdict = f"{len(views):,} TCEs of {data['stars']:,} stars"
    verdict += " (simulated)" if views.simulated else ""
    verdict += f", {sum(reasons.values()):,} dropped" if reasons else ""
    if check:
        warned = sum(item.status == "warn" for item in checks)
        verdict += f"; {len(checks)} checks: {len(failed)} failed, {warned} with a warning"
    warnings = []
    if leaking:
        warnings.append(f"{len(leaking):,} stars are in more than one split, for example {', '.join(leaking[:3])}")
    if repeated:
        warnings.append(f"{repeated:,} rows repeat a star, period and epoch of another row")
    return Result(data, blocks, verdict, warnings, ExitCode.NEGATIVE if failed else ExitCode.DONE)


def _label_table(labels: dict[str, dict[str, int]], *, simulated: bool) -> Table:
    parts = [*SPLITS, *sorted({part for counts in labels.values() for part in counts} - set(SPLITS))]
    rows = [(label, *(f"{c.get(part, 0):,}" for part in parts), f"{sum(c.values()):,}") for label, c in labels.items()]
    total = [sum(counts.get(part, 0) for counts in labels.values()) for part in parts]
    rows.append(("all", *(f"{count:,}" for count in total), f"{sum(total):,}"))
    title = "TCEs by label and split" + (" (simulated)" if simulated else "")
    return Table(("label", *parts, "all"), rows, title=title)


def counts_by_label(views: ViewSet) -> dict[str, dict[str, int]]:
    """TCEs by label and split, labels in the order of `LABELS`."""
    labels, label = views.tces.unique("label")
    parts, part = views.tces.unique("split")
    counts = np.zeros((len(labels), len(parts)), int)
    np.add.at(counts, (label, part), 1)
    found = {
        name: {split: int(n) for split, n in zip(parts.tolist(), row, strict=True) if n}
        for name, row in zip(labels.tolist(), counts, strict=True)
    }
    return dict(sorted(found.items(), key=lambda item: (LABELS.index(item[0]) if item[0] in LABELS else 99, item[0])))


def leaking_stars(views: ViewSet) -> list[str]:
    """Stars whose TCEs are in more than one split."""
    names, star = views.tces.unique("star")
    part = views.tces.unique("split")[1]
    of_star = np.zeros(len(names), int)
    of_star[star] = part
    return np.unique(names[star[of_star[star] != part]]).tolist()


def repeated_rows(views: ViewSet) -> int:
    """Rows that repeat the star, the period (to 1 in 10,000) and the epoch (to a hundredth of a period) of another."""
    numbers = views.tces.numbers
    with np.errstate(divide="ignore", invalid="ignore"):
        period = np.round(np.log(numbers["period_days"]), 4)
        phase = np.round(numbers["epoch_days"] / numbers["period_days"] % 1, 2) % 1
    keys = (phase, period, views.tces.unique("star")[1])
    order = np.lexsort(keys)
    same = np.ones(max(len(views) - 1, 0), bool)
    for key in keys:
        same &= np.diff(key[order]) == 0
    return int(same.sum())


def view_statistics(views: ViewSet) -> dict[str, dict[str, float]]:
    """Extremes, median and scatter of each view, from an even sample of at most 2 * `CHUNK` rows."""
    found = {}
    for name, array in views.views.items():
        rows = array[:: max(len(array) // CHUNK, 1)]  # an even sample of a large set
        if not len(rows):
            found[name] = dict.fromkeys(("minimum", "median", "maximum", "scatter"), float("nan"))
            continue
        middle = np.median(rows, axis=1, keepdims=True)
        scatter = 1.4826 * np.median(np.abs(rows - middle), axis=1)
        values = {"minimum": rows.min(), "median": np.median(middle), "maximum": rows.max()}
        found[name] = {key: float(value) for key, value in values.items()} | {"scatter": float(np.median(scatter))}
    return found


def verify(views: ViewSet) -> list[InvariantCheck]:
    """Every invariant of a view set, checked against its files."""
    return [
        _checksums(views),
        *_finite_and_normalised(views),
        _splits_by_star(views),
        _splits_by_hash(views),
        _known_labels(views),
        _possible_signals(views),
        _distinct_views(views),
    ]


def _checksums(views: ViewSet) -> InvariantCheck:
    recorded = {views.path / name: digest for name, digest in views.info["sha256"].items()}
    for shard in views.shards:
        recorded |= {shard.path / name: digest for name, digest in shard.info["sha256"].items()}
    wrong = []
    with console.progress("checksums", len(recorded)) as bar:
        for file, digest in recorded.items():
            if not remote.exists(file) or checksum(file) != digest:
                wrong.append(file.relative_to(views.path).as_posix())
            bar.update(advance=1)
    found = f"{', '.join(wrong[:8])} changed after it was written" if wrong else f"{len(recorded)} files as written"
    return InvariantCheck("checksums", "fail" if wrong else "ok", found)


def _finite_and_normalised(views: ViewSet) -> list[InvariantCheck]:
    broken, odd = 0, 0
    for name, array in views.views.items():
        for begin in range(0, len(array), CHUNK):
            rows = np.asarray(array[begin : begin + CHUNK])
            finite = np.isfinite(rows).all(axis=1)
            broken += int((~finite).sum())
            if name in {"global", "local"}:
                good = rows[finite]
                centred = np.abs(np.median(good, axis=1)) < 1e-3
                odd += int((~(centred & (np.abs(good.min(axis=1) + 1) < 1e-3))).sum())
    normalised = "every global and local view has median 0 and minimum -1"
    if odd:
        normalised = f"{odd:,} global or local views do not have median 0 and minimum -1"
    return [
        InvariantCheck("finite", "fail" if broken else "ok", f"{broken:,} views with NaN or infinity"),
        InvariantCheck("normalised", "warn" if odd else "ok", normalised),
    ]


def _splits_by_star(views: ViewSet) -> InvariantCheck:
    leaking = leaking_stars(views)
    unknown = sorted(set(views.tces.unique("split")[0].tolist()) - set(SPLITS))
    found = f"{len(leaking):,} stars are in more than one split"
    if unknown:
        found += f"; unknown splits {', '.join(unknown)}"
    return InvariantCheck("split by star", "fail" if leaking or unknown else "ok", found)


def _splits_by_hash(views: ViewSet) -> InvariantCheck:
    if not len(views):
        return InvariantCheck("split by hash", "ok", "no rows")
    stars, where = views.tces.unique("star")
    parts, part = views.tces.unique("split")
    fractions = views.recipe.get("split_fractions")
    expected = split(stars, fractions) if fractions else split(stars)
    places = np.array([parts.tolist().index(name) if name in parts else -1 for name in SPLITS])
    expected_part = places[np.array([SPLITS.index(name) for name in expected.tolist()], int)]
    moved = int((expected_part[where] != part).sum())
    if moved:
        return InvariantCheck(
            "split by hash", "warn", f"{moved:,} rows are not in the split that their star's hash gives"
        )
    return InvariantCheck("split by hash", "ok", "every split follows from its star's name")


def _known_labels(views: ViewSet) -> InvariantCheck:
    unknown = sorted(set(views.tces.unique("label")[0].tolist()) - set(LABELS))
    return InvariantCheck(
        "labels", "fail" if unknown else "ok", f"unknown: {', '.join(unknown)}" if unknown else "all known"
    )


def _possible_signals(views: ViewSet) -> InvariantCheck:
    period, hours = views.tces["period_days"], views.tces["duration_hours"]
    wrong = int((~((period > 0) & (hours > 0) & (hours / 24 < period))).sum())
    return InvariantCheck("signals", "warn" if wrong else "ok", f"{wrong:,} rows without 0 < duration < period")


def _distinct_views(views: ViewSet) -> InvariantCheck:
    digests = np.empty(len(views), np.uint64)
    for begin in range(0, len(views), CHUNK):
        block = np.concatenate([array[begin : begin + CHUNK] for array in views.views.values()], axis=1)
        for row, values in enumerate(np.ascontiguousarray(block), begin):
            digests[row] = int.from_bytes(hashlib.blake2b(values.data, digest_size=8).digest(), "little")
    same = len(views) - len(np.unique(digests))
    return InvariantCheck("distinct", "warn" if same else "ok", f"{same:,} TCEs with exactly the views of another")
