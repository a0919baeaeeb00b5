"""Tables as text: aligned columns for pipes, and tables or records that fit a terminal without breaking a word."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

    from transit_cli.results import Table

#: A cell up to this length is never broken: the name of a star, a number with its unit.
WHOLE = 18
#: Columns between two columns.
GAP = 2
STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red", "skip": "dim"}


def printable(text: object) -> str:
    """Text without control characters: names in files must not move the cursor or set the terminal's title."""
    return "".join(c if c.isprintable() or c in "\n\t" or ord(c) > 0x9F else f"\\x{ord(c):02x}" for c in str(text))


def plain_table(table: Table) -> str:
    """Aligned columns two spaces apart, one line per row, for `grep`, `awk` and logs."""
    rows = [[printable(cell).replace("\n", " ") for cell in row] for row in (table.columns, *table.rows)]
    widths = [max(len(row[index]) for row in rows) for index in range(len(table.columns))]
    right = [_right(table, index) for index in range(len(table.columns))]
    lines = [table.title] if table.title else []
    lines += [
        "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, table.note] if table.note else lines)


def terminal_table(table: Table, width: int) -> list[RenderableType]:
    """An empty line, title, table and note for a terminal; a record per row if the columns do not fit side by side.

    Args:
        table: the table.
        width: columns of the terminal.
    """
    from rich.text import Text

    least = [_least_width(table, column) for column in range(len(table.columns))]
    fits = sum(least) + GAP * (len(least) - 1) <= width
    shown: list[RenderableType] = [Text(""), *([Text(table.title, style="bold")] if table.title else [])]
    shown += [_side_by_side(table, least)] if fits else _records(table, width)
    return [*shown, Text(table.note)] if table.note else shown


def _side_by_side(table: Table, least: list[int]) -> RenderableType:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0))
    for index, name in enumerate(table.columns):
        short = all(len(str(row[index])) <= WHOLE for row in table.rows)
        shown.add_column(
            Text(name),
            justify="right" if _right(table, index) else "left",
            overflow="fold",
            min_width=least[index],
            max_width=max([least[index], len(name), *(len(str(row[index])) for row in table.rows)]) if short else None,
        )
    for row in table.rows:
        shown.add_row(*(Text(printable(cell), style=STYLES.get(str(cell), "")) for cell in row))
    return shown


def _records(table: Table, width: int) -> list[RenderableType]:
    """Each row as lines of name and value, with an empty line between rows."""
    from rich.text import Text

    column = max(map(len, table.columns))
    lines: list[RenderableType] = []
    for row in table.rows:
        lines += [Text("")] if lines else []
        for name, cell in zip(table.columns, row, strict=True):
            room = max(width - column - GAP, WHOLE)
            parts = [part for line in printable(cell).split("\n") for part in textwrap.wrap(line, room)] or [""]
            for number, part in enumerate(parts):
                term = name if number == 0 else ""
                line = Text(f"{term:<{column}}{' ' * GAP}", style="dim")
                lines.append(line + Text(part, style=STYLES.get(str(cell), "")))
    return lines


def _least_width(table: Table, column: int) -> int:
    """The columns below which a word, a number or a short cell would be broken."""
    words = table.columns[column].split()
    for row in table.rows:
        cell = printable(row[column])
        words += [cell] if len(cell) <= WHOLE else cell.split()
    return max(map(len, words), default=1)


def _is_number(cell: object) -> bool:
    text = str(cell).strip().replace(",", "").removesuffix("%").removesuffix("x").strip()
    try:
        float(text)
    except ValueError:
        return text in {"", "-"}
    return True


def _right(table: Table, column: int) -> bool:
    """Whether a column holds numbers, with or without a unit after them."""
    cells = [str(row[column]).split(" ")[0] for row in table.rows if str(row[column]).strip() not in {"", "-"}]
    return bool(cells) and all(_is_number(cell) for cell in cells)
