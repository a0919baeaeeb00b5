"""Comparison with a previous run: what changed, and whether significantly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from transit_cli.parsing import schema
from transit_cli.profiling.report.compare import Change, Seconds, change

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from transit_cli.bench.throughput import Throughput

#: Fields that are equal for two runs on the same machine.
MACHINE = ("device_name", "threads", "torch")


@dataclass(frozen=True)
class Figure:
    """One throughput of the previous run; `pass` is a keyword of Python, hence `kind`."""

    network: str
    kind: Annotated[str, schema.Key("pass")]
    batch_size: int
    samples_seconds: Seconds


@dataclass(frozen=True)
class PreviousRun:
    """What is read of the previous run's data."""

    device_name: str
    threads: int
    torch: str
    views: dict[str, int]
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class _Document:
    command: Literal["bench"]
    data: PreviousRun


def read(file: Path) -> PreviousRun:
    """The data of a document that `transit bench --json` printed.

    Raises:
        TransitError: it is not such a document.
    """
    wanted, fix = "what `transit bench --json` printed", f"transit bench --json > {file.name}"
    return schema.read(file, _Document, schema.Source(str(file), wanted, fix, "bench-unreadable")).data


def compare(before: PreviousRun, figures: Sequence[Throughput]) -> list[tuple[Throughput, Change]]:
    """The seconds of each figure that both runs have."""
    known = {(row.network, row.kind, row.batch_size): row.samples_seconds for row in before.figures}
    both = [(figure, known.get((figure.network, figure.kind, figure.batch_size))) for figure in figures]
    return [(figure, change(figure.kind, old, list(figure.seconds))) for figure, old in both if old]


def differences(before: PreviousRun, now: dict[str, Any]) -> list[str]:
    """How machine and views of the previous run differ, for display."""
    return [
        f"{name.replace('_', ' ')} {getattr(before, name)} -> {now[name]}"
        for name in (*MACHINE, "views")
        if getattr(before, name) != now[name]
    ]
