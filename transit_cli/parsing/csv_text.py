"""Text in CSV files that people open in a spreadsheet, which would run a cell that begins with = as a formula.

Such a cell gets an apostrophe in front, which spreadsheets take for "this is text"; `plain` removes it, so that names
are read back as they were. Numbers are left as they are.
"""

from __future__ import annotations

import contextlib
import re

#: What a formula begins with (OWASP, "CSV Injection"), behind apostrophes: text that begins like this is quoted.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
_QUOTED = re.compile(r"'+[=+\-@\t\r\n]")


def quoted(text: str) -> str:
    """Text as a cell that no spreadsheet takes for a formula."""
    if _FORMULA.match(text) is None:
        return text
    if text[0] != "'":
        with contextlib.suppress(ValueError):
            float(text)
            return text
    return f"'{text}"


def plain(cell: str) -> str:
    """The text that `quoted` made a cell of."""
    return cell[1:] if _QUOTED.match(cell) else cell
