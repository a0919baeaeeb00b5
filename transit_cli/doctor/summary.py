"""The doctor's output: a short table, what to do, a verdict; or a shell snippet, or Markdown."""

from __future__ import annotations

import itertools
import textwrap
from typing import TYPE_CHECKING

from transit_cli import __version__
from transit_cli.results import Table, Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transit_cli.doctor.check import CheckResult

WIDTH = 80

#: The suggested first command if all is well.
BEGIN = "transit train"


def table(rows: Sequence[CheckResult]) -> Table:
    """One line per check. Neighbours that are skipped for the same reason share a line."""
    lines: list[tuple[str, str, str]] = []
    for (status, found), group in itertools.groupby(rows, key=lambda row: (row.status, row.found)):
        same = list(group)
        if status == "skip" and len(same) > 1:
            lines.append((_together([row.id for row in same]), status, found))
        else:
            lines += [(row.id, row.status, row.found) for row in same]
    return Table(("check", "status", "found"), lines)


def _together(ids: list[str]) -> str:
    """A device's name for its parts; else the first id and how many more."""
    if all(row_id.startswith(f"{ids[0]}-") for row_id in ids[1:]):
        return ids[0]
    return f"{ids[0]} +{len(ids) - 1}"


def advice(rows: Sequence[CheckResult]) -> Text:
    """For every warning and failure, why it matters and what to type."""
    troubled = _troubled(rows)
    groups: dict[tuple[str, str], list[CheckResult]] = {}
    for row in troubled:
        groups.setdefault((row.why, row.fix), []).append(row)
    named = [(_together([row.id for row in group]), group[0]) for group in groups.values()]
    margin = max((len(name) for name, _ in named), default=0) + 2
    lines: list[str] = []
    for name, row in named:
        wanted = f"wanted: {row.wanted}" if row.wanted else ""
        words = "; ".join(filter(None, (row.why, wanted)))
        lines += textwrap.wrap(words, WIDTH, initial_indent=name.ljust(margin), subsequent_indent=" " * margin) or [
            name
        ]
        if row.fix:
            lines.append(f"{'':{margin}}$ {row.fix}")
    return Text("\n".join([*lines, ""]))


def _troubled(rows: Sequence[CheckResult]) -> list[CheckResult]:
    """The rows that are not well, failures first."""
    return [row for status in ("fail", "warn") for row in rows if row.status == status]


def verdict(rows: Sequence[CheckResult], *, everything: bool) -> str:
    """The answer in a line, and the first thing to type.

    Args:
        rows: what was found.
        everything: whether all checks were run; a part of them does not show that the machine is ready.
    """
    troubled = _troubled(rows)
    failed = sum(row.status == "fail" for row in troubled)
    first = next((row.fix for row in troubled if row.fix and (row.status == "fail" or not failed)), "")
    if failed:
        words = f"not ready: {failed} check{'s' * (failed > 1)} failed" if everything else f"{failed} failed"
    else:
        words = "ready" if everything else "no failure"
        if troubled:
            words += f", with {len(troubled)} thing{'s' * (len(troubled) > 1)} to know"
        first = first or (BEGIN if everything else "")
    return f"{words}. Type: {first}" if first else f"{words}."


def snippet(rows: Sequence[CheckResult]) -> Text:
    """The fixes as shell, each below its reason. Nothing has been run."""
    lines: list[str] = []
    for row in _troubled(rows):
        if row.fix:
            lines += [f"# {row.id}: {row.found}", row.fix]
    return Text("\n".join(lines or ["# nothing to fix"]))


def markdown(rows: Sequence[CheckResult], words: str) -> str:
    """The answer to paste into an issue: no names of people, machines or folders other than the runs'."""

    def cell(text: str) -> str:
        return text.replace("|", "\\|").replace("\n", " ")

    lines = [f"transit {__version__} doctor: {words}", "", "| check | status | found | wanted |", "|---|---|---|---|"]
    lines += [f"| {row.id} | {row.status} | {cell(row.found)} | {cell(row.wanted)} |" for row in rows]
    return "\n".join(lines) + "\n"
