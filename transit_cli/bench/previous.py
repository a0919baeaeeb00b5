"""Comparison with a previous run: what changed, and whether significantly."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from transit_cli.profiling.report.compare import Change, change
from transit_cli.results import TransitError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from transit_cli.bench.throughput import Throughput

#: Fields that are equal for two runs on the same machine.
MACHINE = ("device_name", "threads", "torch")


def read(file: Path) -> dict[str, Any]:
    """The data of a document that `transit bench --json` printed.

    Raises:
        TransitError: it is not such a document.
    """
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        if document["command"] == "bench" and document["data"]["figures"]:
            return document["data"]
        found = f"holds a document of `transit {document['command']}`"
    except OSError as error:
        found = f"cannot be read: {error.strerror}"
    except (ValueError, KeyError, TypeError):
        found = "is not a benchmark"
    raise TransitError(
        f"{file} {found}",
        wanted="what `transit bench --json` printed",
        fix=f"transit bench --json > {file.name}",
        code="bench-unreadable",
    )


def compare(before: dict[str, Any], figures: Sequence[Throughput]) -> list[tuple[Throughput, Change]]:
    """The seconds of each figure that both runs have."""
    known = {(row["network"], row["pass"], row["batch_size"]): row["samples_seconds"] for row in before["figures"]}
    both = [(figure, known.get((figure.network, figure.kind, figure.batch_size))) for figure in figures]
    return [(figure, change(figure.kind, old, list(figure.seconds))) for figure, old in both if old]


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """How machine and views of the previous run differ, for display."""
    return [
        f"{name.replace('_', ' ')} {before.get(name)} -> {now[name]}"
        for name in (*MACHINE, "views")
        if before.get(name) != now[name]
    ]
