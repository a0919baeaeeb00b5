"""Tables on a terminal: no word, number or star is broken at any width, in any encoding."""

import io

import pytest
from rich.console import Console

from transit_cli.results import Table
from transit_cli.utils.tables import terminal_table

STARS = ("TIC 100100827", "KIC 11442793", "KIC 6721123")
ROWS = [(star, "TOI-185.01", 0.123 * n, f"{n},234.5 ppm", "no cadence in transit") for n, star in enumerate(STARS, 1)]
TABLE = Table(("star", "signal", "score", "depth", "why not"), ROWS, title="Signals of " + "many " * 30, note="n " * 90)


def drawn(width, encoding="utf-8", table=TABLE):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace")
    terminal = Console(file=stream, width=width, force_terminal=True, color_system=None)
    for part in terminal_table(table, width):
        terminal.print(part)
    stream.flush()
    return stream.buffer.getvalue().decode(encoding)


@pytest.mark.parametrize("width", [30, 45, 60, 80, 120])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
def test_no_word_is_broken(width, encoding):
    lines = drawn(width, encoding).splitlines()
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for cell in (*STARS, "TOI-185.01", "3,234.5 ppm", "signal", "cadence", "transit"):
        assert cell in text
    assert "?" not in text


def test_a_table_that_does_not_fit_is_a_record_per_row():
    lines = [line.rstrip() for line in drawn(45).splitlines()]
    assert lines[lines.index("star     TIC 100100827") :][:3] == [
        "star     TIC 100100827",
        "signal   TOI-185.01",
        "score    0.123",
    ]
    assert "star     TIC 100100827" not in drawn(80)


def test_title_and_note_are_as_wide_as_the_terminal():
    narrow = Table(("a", "b"), [(1, 2)], title="The title of a narrow table", note="its note is longer than it")
    assert {"The title of a narrow table", "its note is longer than it"} <= {
        line.rstrip() for line in drawn(60, table=narrow).splitlines()
    }
