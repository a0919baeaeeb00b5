"""`transit fallback-test all-ops`: torch's operator database on this device, as a matrix to save and compare.

The database is tested in child processes, chunk by chunk; each chunk's results are on disk before the next one begins,
and an interrupted run resumes. After a crash, a new child continues without the operator that caused it.
"""

from __future__ import annotations

import dataclasses
import json
import platform
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from transit_cli import console
from transit_cli.device.select import select
from transit_cli.operators.device_process import run_in_child
from transit_cli.operators.op_database import matrix_page
from transit_cli.operators.op_database.row import OperatorRow
from transit_cli.parsing import schema
from transit_cli.results import ExitCode, Result, Table, TransitError
from transit_cli.utils.files import atomic_write

if TYPE_CHECKING:
    from pathlib import Path

    from transit_cli.device.base import Device
    from transit_cli.operators.settings import OperatorDatabaseSettings

#: Operators per child process, and samples per operator.
CHUNK, SAMPLES = 90, 10


@dataclass(frozen=True)
class SavedMatrix:
    """The content of matrix.json."""

    key: dict[str, str]
    operators: dict[str, OperatorRow]


def check_op_db(settings: OperatorDatabaseSettings) -> Result:
    """Test every operator of torch's database on the device.

    Raises:
        TransitError: the database cannot be read, or the file of `--compare` is not a matrix.
    """
    from transit_cli.operators.op_database.database import key_of, operators
    from transit_cli.operators.op_database.upstream import known_failures

    device = select(settings.device)
    other = _read(settings.compare) if settings.compare else None
    entries = operators()
    names = sorted({key_of(entry) for entry in entries})
    key = _key(device)
    rows: dict[str, OperatorRow] = {}
    file = settings.out / "matrix.json" if settings.out else None
    if file is not None and file.exists():
        before = _read(file)
        rows = dict(before.operators) if before.key == key else {}
    left = [name for name in names if name not in rows]
    with console.progress(f"operators on {device.kind}", len(left)) as progress:
        for start in range(0, len(left), CHUNK):
            rows |= _chunk(left[start : start + CHUNK], device, settings.timeout, progress)
            if file is not None:
                _write(file.parent, key, rows)
    if device.kind == "mps":
        known = known_failures(entries)
        rows = {
            name: replace(row, known=row.failed is not None and name in known[row.failed]) for name, row in rows.items()
        }
    return _result(settings, key, rows, other)


def _chunk(names: list[str], device: Device, timeout: float, progress: Any) -> dict[str, OperatorRow]:
    import torch

    rows: dict[str, OperatorRow] = {}
    while len(rows) < len(names):
        job = {
            "part": "database",
            "device": device.kind,
            "operators": [name for name in names if name not in rows],
            "samples": SAMPLES,
            "threads": torch.get_num_threads(),
        }
        started: list[str] = []

        def take(event: dict[str, Any], started: list[str] = started) -> None:
            if "start" in event:
                started.append(event["start"])
            else:
                name = event.pop("name")
                rows[name] = OperatorRow(**event)
                progress.update(advance=1, status=started[-1])

        end = run_in_child(job, take, timeout=timeout)
        if end.kind == "done":
            break
        if not started or started[-1] in rows:
            raise TransitError(
                f"the test ended early: {end.message or end.kind}",
                fix="transit fallback-test all-ops --device cpu",
                exit_code=ExitCode.MACHINE,
                code="database-failed",
            )
        rows[started[-1]] = OperatorRow(end.kind, message=end.message)
    return rows


def _key(device: Device) -> dict[str, str]:
    import torch

    return {
        "torch": torch.__version__,
        "system": f"{platform.system()} {platform.mac_ver()[0] or platform.release()}",
        "device": device.kind,
        "chip": device.facts.name,
    }


def _read(path: Path) -> SavedMatrix:
    wanted = "a matrix.json that `transit fallback-test all-ops --out FOLDER` wrote"
    return schema.read(path, SavedMatrix, schema.Source(str(path), wanted, "give another path", "matrix-unreadable"))


def _write(folder: Path, key: dict[str, str], rows: dict[str, OperatorRow]) -> None:
    """Write the matrix as JSON, Markdown and HTML, each file atomically."""
    table = matrix_page.table(rows)
    lines = [
        f"# {matrix_page.title(key)}",
        "",
        "| " + " | ".join(table.columns) + " |",
        "|---" * len(table.columns) + "|",
    ]
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in table.rows]
    document = json.dumps({"key": key, "operators": _as_json(rows)}, indent=1)
    page = matrix_page.page(key, rows)
    for name, text in (("matrix.json", document), ("matrix.md", "\n".join(lines) + "\n"), ("matrix.html", page)):
        atomic_write(folder / name, text)


def _result(
    settings: OperatorDatabaseSettings, key: dict[str, str], rows: dict[str, OperatorRow], other: SavedMatrix | None
) -> Result:
    if settings.out:
        _write(settings.out, key, rows)
    bad = {name: row for name, row in rows.items() if row.failed}
    new = {name: row for name, row in bad.items() if not row.known}
    counts = Counter(row.status for row in rows.values())
    samples = sum(row.samples for row in rows.values())
    blocks = [
        Table(
            ("verdict", "operators"),
            [[status, count] for status, count in counts.most_common()],
            title=f"torch's operator database on {key['device']} ({key['chip']}), {samples:,} samples",
            note=matrix_page.NOT_JUDGED,
        )
    ]
    if bad:
        cells = [[n, r.status, "known" if r.known else "new", r.message[:100]] for n, r in sorted(bad.items())]
        blocks.append(Table(("operator", "verdict", "upstream", "why"), cells, title="Problems"))
    data: dict[str, Any] = {"key": key, "samples": samples, "counts": dict(counts), "operators": _as_json(rows)}
    if other is not None:
        changes = _changes(other.operators, rows)
        data["compared_with"] = other.key
        data["changes"] = changes
        note = f"before: torch {other.key.get('torch')} on {other.key.get('chip')}"
        blocks.append(
            Table(
                ("operator", "before", "now"),
                [[c["operator"], c["before"], c["now"]] for c in changes],
                "Changes",
                note,
            )
        )
    verdict = (
        f"{len(rows)} operators, {samples:,} samples: {len(new)} new failures, {len(bad) - len(new)} known upstream"
    )
    if other is not None:
        verdict += f"; {len(data['changes'])} differ from {settings.compare}"
    return Result(data, blocks, verdict, exit_code=ExitCode.NEGATIVE if new else ExitCode.DONE)


def _as_json(rows: dict[str, OperatorRow]) -> dict[str, dict[str, Any]]:
    return {name: dataclasses.asdict(row) for name, row in sorted(rows.items())}


def _changes(before: dict[str, OperatorRow], now: dict[str, OperatorRow]) -> list[dict[str, str]]:
    def status(rows: dict[str, OperatorRow], name: str) -> str:
        return rows[name].status if name in rows else "absent"

    pairs = [(name, status(before, name), status(now, name)) for name in sorted({*before, *now})]
    return [{"operator": name, "before": old, "now": new} for name, old, new in pairs if old != new]
