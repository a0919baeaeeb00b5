"""The report as Markdown: a summary, then a heading per section with its most telling numbers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from transit_cli import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from transit_cli.device.machine import Machine
    from transit_cli.doctor.mac_report.sections import Outcome

GIB = 1 << 30

SIMULATED = (
    "> **Simulated device.** This was not run on a Mac: the numbers are a CPU's, and say nothing of Apple's hardware."
)


def page(facts: Machine, outcomes: Sequence[Outcome]) -> str:
    """The whole report; sections that have not run yet are absent."""
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    lines = [f"# transit {__version__} on {_name(facts)}", "", f"Made by `transit doctor --mac-report` on {day}.", ""]
    if facts.system != "Darwin":
        lines += [SIMULATED, ""]
    lines += [*_table(("", ""), _facts(facts)), ""]
    summary = [(one.section.title, one.status, f"{one.seconds:.0f} s", one.verdict) for one in outcomes]
    lines += [*_table(("section", "status", "time", "verdict"), summary), ""]
    for one in outcomes:
        body = _body(one)
        if body:
            lines += [f"## {one.section.title}", "", *body, ""]
    return "\n".join(lines)


def _name(facts: Machine) -> str:
    return f"{facts.chip}, macOS {facts.version}" if facts.system == "Darwin" else f"a simulated device, {facts.system}"


def _facts(facts: Machine) -> list[tuple[str, object]]:
    cores = f"{facts.cores or 'unknown'}"
    if facts.performance_cores and facts.efficiency_cores:
        names = " + ".join(facts.core_names) if len(facts.core_names) == 2 else "fast + slow"
        cores = f"{facts.performance_cores} + {facts.efficiency_cores} ({names})"
    memory = f"{facts.memory_bytes / GIB:.0f} GiB" if facts.memory_bytes else "unknown"
    found: list[tuple[str, object]] = [
        ("chip", facts.chip or "unknown"),
        ("CPU cores", cores),
        ("GPU cores", facts.gpu_cores or "unknown"),
        ("memory", memory),
        ("system", f"{facts.system} {facts.version} {facts.build}".strip()),
        ("Python", f"{facts.python} {facts.architecture}"),
        ("torch", facts.torch or "not installed"),
    ]
    if facts.low_power is not None:
        found.append(("low power mode", "on" if facts.low_power else "off"))
    if facts.on_battery is not None:
        found.append(("power", "battery" if facts.on_battery else "mains"))
    return found


def _body(outcome: Outcome) -> list[str]:
    writer = _WRITERS.get(outcome.section.id, _operators)
    try:
        return writer(outcome.data) if outcome.data else []
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        return [f"(its data cannot be shown: {type(error).__name__})"]


def _doctor(data: dict[str, Any]) -> list[str]:
    rows = [(row["id"], row["status"], row["found"], row["wanted"]) for row in data["rows"]]
    return _table(("check", "status", "found", "wanted"), rows)


def _operators(data: dict[str, Any]) -> list[str]:
    rows = data["operators"]
    good = sum(row["status"] == "ok" for row in rows)
    lines = [f"{data['network']}, batch {data['batch_size']}: {good} of {len(rows)} kinds of calls are right.", ""]
    shown = [row for row in rows if row["status"] != "ok"] or _closest(rows)
    columns = ("operator", "phase", "shapes", "status", "error", "bound", "message")
    cells = [
        (row["operator"], row["phase"], row["shapes"], row["status"], f"{row['error']:.1e}", f"{row['bound']:.1e}",
         row["message"] or row["variant"])
        for row in shown
    ]  # fmt: skip
    lines += _table(columns, cells)
    for precision, step in data["whole_step"].items():
        if step.get("losses"):
            lines += [
                "",
                (
                    f"{step['steps']} steps in {precision}: loss {step['losses'][-1]:.5f}, on the CPU "
                    f"{step['cpu_losses'][-1]:.5f}; {step['worst']:.2f} of the allowed difference."
                ),
            ]
    return lines


def _closest(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The three calls that came closest to their bound."""
    return sorted(rows, key=lambda row: -row["error"] / (row["bound"] or 1))[:3]


def _metal(data: dict[str, Any]) -> list[str]:
    rows = [
        (name, f"not used: {one['refused']}", "", "", "", "")
        if "refused" in one
        else (
            name,
            f"{one['milliseconds']:.3g}",
            f"{one['samples_per_second']:,.0f}",
            f"{one['last_loss']:.5f}",
            f"{one['gradient_difference']:.1e}",
            f"{one['weight_difference']:.1e}",
        )
        for name, one in data["executions"].items()
    ]
    columns = ("execution", "ms per step", "samples/s", "last loss", "gradients", "weights")
    return [
        *_table(columns, rows),
        "",
        (
            f"Batch {data['batch_size']}, {data['steps']} steps. gradients: of the first batch, weights: after all "
            "steps, each by its difference from eager's in norm."
        ),
    ]


def _bench(data: dict[str, Any]) -> list[str]:
    rows = [
        (
            one["network"],
            one["pass"],
            one["batch_size"],
            one["execution"],
            f"{one['samples_per_second']:,.0f}",
            f"{one['spread']:.0%}",
            f"{one['bytes_share']:.0%}",
            f"{one['flops_share']:.0%}",
            _joules(one),
        )
        for one in data["figures"]
    ]
    columns = ("network", "pass", "batch", "execution", "samples/s", "IQR", "bytes", "flops", "J per 1,000 samples")
    peaks = (
        f"bytes, flops: shares of {data['peak_copy_bytes_per_second'] / 1e9:,.1f} GB/s copied and "
        f"{data['peak_matmul_flops_per_second'] / 1e9:,.0f} GFLOP/s of a matrix product, measured here."
    )
    energy = "" if data["energy"] == "zeus" else f" Energy: {data['energy']}."
    busy = f" Other programs used {data['busy_percent']:.0f} % of the processors."
    return [*_table(columns, rows), "", peaks + energy + busy]


def _joules(figure: dict[str, Any]) -> str:
    joules = figure.get("joules")
    return f"{1000 * joules / figure['batch_size']:.3g}" if joules else "-"


_WRITERS: dict[str, Callable[[dict[str, Any]], list[str]]] = {"doctor": _doctor, "metal": _metal, "bench": _bench}


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    return lines + ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", "; ")
