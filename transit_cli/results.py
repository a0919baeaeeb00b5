"""Results and errors of commands: `Result`, `ExitCode`, `TransitError`.

A command never prints and never exits. It returns a `Result`, or raises a `TransitError`;
`transit_cli.command` renders either one, as tables or as one JSON document. Imports only the standard library, because
every start of `transit` may import this module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

__all__ = ["ExitCode", "Result", "Table", "Text", "TransitError"]

#: Version of the JSON document, increased when a field is removed or changes its meaning; not for new fields.
JSON_VERSION = 1


class ExitCode(IntEnum):
    """The exit codes of `transit`, on which scripts may rely."""

    DONE = 0  # done, possibly with warnings
    NEGATIVE = 1  # done, with a negative result: a check failed, a difference was found
    USAGE = 2  # unknown command or option, or a value out of its range
    PLUGIN = 3  # a plugin could not be loaded
    BAD_INPUT = 4  # a file, configuration or data set is invalid
    MACHINE = 5  # this machine cannot do it: no memory, no disk, no device, no permission
    BUG = 70  # a bug in transit (EX_SOFTWARE of sysexits.h); please report it
    INTERRUPTED = 130  # Ctrl-C (128 + SIGINT); progress is saved
    TERMINATED = 143  # SIGTERM (128 + 15); progress is saved


class TransitError(Exception):
    """A failure that the user can fix.

    Args:
        found: what was found, a sentence without its full stop ("runs/a has no checkpoint").
        wanted: what was wanted instead ("a folder that `transit train` wrote").
        fix: a command or edit that fixes it.
        exit_code: the kind of failure; `BAD_INPUT` by default.
        code: a short stable name for scripts ("viewset-missing"); the kind of failure by default.
    """

    def __init__(
        self,
        found: str,
        *,
        wanted: str = "",
        fix: str = "",
        exit_code: ExitCode = ExitCode.BAD_INPUT,
        code: str = "",
    ) -> None:
        super().__init__(found)
        self.found = found
        self.wanted = wanted
        self.fix = fix
        self.exit_code = exit_code
        self.code = code or exit_code.name.lower().replace("_", "-")

    def document(self) -> dict[str, str]:
        """The error in the JSON document."""
        return {"code": self.code, "found": self.found, "wanted": self.wanted, "fix": self.fix}


@dataclass(frozen=True)
class Table:
    """A table: `rows` of cells, one per entry of `columns`; numbers are right-aligned.

    Cells are shown as they are, so numbers are formatted by the caller. `note` is shown below the table.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    title: str = ""
    note: str = ""


@dataclass(frozen=True)
class Text:
    """Lines of text, shown as they are (a chart, a command to paste)."""

    text: str


@dataclass(frozen=True)
class Result:
    """The result of a command.

    Attributes:
        data: the result for programs: JSON types only (NaN and infinity become null), with stable names that include
            the unit (`seconds`, `peak_memory_bytes`).
        blocks: the result as tables and text, in this order.
        verdict: the result in one line, shown last.
        warnings: things to know; they do not change the exit code.
        exit_code: `DONE`, or `NEGATIVE` if the command checks something and the check fails.
    """

    data: Mapping[str, Any]
    blocks: Sequence[Table | Text] = ()
    verdict: str = ""
    warnings: Sequence[str] = ()
    exit_code: ExitCode = ExitCode.DONE


@dataclass(frozen=True)
class Document:
    """The one JSON document that `--json` puts on stdout; `docs/result.schema.json` describes it."""

    command: str
    version: str
    exit_code: ExitCode
    data: Mapping[str, Any] = field(default_factory=dict)
    verdict: str = ""
    warnings: Sequence[str] = ()
    errors: Sequence[Mapping[str, str]] = ()

    def as_json(self) -> dict[str, Any]:
        """The document in JSON types, in reading order."""
        status = {ExitCode.DONE: "done", ExitCode.NEGATIVE: "negative"}.get(self.exit_code, "error")
        return {
            "transit_json": JSON_VERSION,
            "command": self.command,
            "version": self.version,
            "status": status,
            "exit_code": int(self.exit_code),
            "verdict": self.verdict,
            "data": plain(self.data),
            "warnings": list(self.warnings),
            "errors": [dict(error) for error in self.errors],
        }


def plain(value: Any) -> Any:
    """`value` in JSON types: mappings, lists, text, finite numbers, booleans and null.

    NumPy and torch scalars answer `.item()`, arrays `.tolist()`; paths and enums become text. NaN and infinity become
    null, because JSON has neither.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if value - value == 0 else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence | set | frozenset):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return str(value)
