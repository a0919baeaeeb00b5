"""matrix.html: the results of torch's operator database, failures first."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from transit_cli.operators.op_database.row import BAD, OperatorRow
from transit_cli.plotting import html
from transit_cli.results import Table

if TYPE_CHECKING:
    from collections.abc import Mapping

NOT_JUDGED = "not judged: random, ill-conditioned or impossible on the CPU as well"
COLUMNS = ("operator", "verdict", "forward", "gradient", "samples", "error", "upstream", "message")
BADGES = {"ok": "good", "none": "none", "not judged": "none", "fell back": "doubt", **dict.fromkeys(BAD, "bad")}
MEANINGS = (
    ("wrong", "differs from the CPU by more than the tolerance"),
    ("missing", "not implemented on the device"),
    ("refused", "raised an error that the CPU does not raise"),
    ("aborted", "ended the process"),
    ("hung", "did not return in time"),
    ("fell back", "right, but it or a part of it ran on the CPU"),
    ("not judged", "random, ill-conditioned or impossible on the CPU as well"),
    ("ok", "agrees with the CPU"),
)


def title(key: Mapping[str, str]) -> str:
    """What was tested where."""
    return f"Operators of torch {key['torch']} on {key['device']} ({key['chip']}, {key['system']})"


def table(rows: Mapping[str, OperatorRow]) -> Table:
    """One row per operator: new failures, failures known upstream, fallbacks, then the others."""

    def order(item: tuple[str, OperatorRow]) -> tuple[int, str]:
        name, row = item
        rank = (1 if row.known else 0) if row.failed else 2 if row.fell_back else 3 if row.status != "ok" else 4
        return rank, name

    return Table(
        COLUMNS,
        [
            (
                name,
                row.status,
                row.forward,
                row.gradient,
                row.samples,
                f"{row.error:.1e}",
                ("known" if row.known else "new") if row.failed else "",
                row.message,
            )
            for name, row in sorted(rows.items(), key=order)
        ],
    )


def page(key: Mapping[str, str], rows: Mapping[str, OperatorRow]) -> str:
    """The document."""
    counts = Counter(row.status for row in rows.values())
    failed = [row for row in rows.values() if row.failed]
    new = sum(not row.known for row in failed)
    cards = [
        ("operators", f"{len(rows):,}", f"{sum(row.samples for row in rows.values()):,} samples"),
        ("new failures", f"{new:,}", "that PyTorch's own tests do not expect"),
        ("known failures", f"{len(failed) - new:,}", "expected by PyTorch's own tests"),
        ("fell back", f"{sum(row.fell_back for row in rows.values()):,}", "right, but partly on the CPU"),
        ("ok", f"{counts['ok']:,}", "agree with the CPU"),
    ]
    summary = [(status, f"{counts[status]:,}", meaning) for status, meaning in MEANINGS if counts[status]] + [
        (status, f"{count:,}", "") for status, count in counts.items() if status not in dict(MEANINGS)
    ]
    sections = [
        html.Section("Summary", tables=[Table(("verdict", "operators", "meaning"), summary)], badges=BADGES),
        html.Section(
            "Operators",
            ["Failures first. The error is the largest one, relative to the largest value of the result."],
            [table(rows)],
            badges=BADGES,
            search=("verdict", "upstream"),
        ),
    ]
    about = ["Each operator of torch's test database on the device, compared with float64 on the CPU."]
    return html.page(title(key), about, sections, cards=cards, wide=True)
