"""`transit fallback-test predict`: the status on MPS of the step's operators, determined on any machine."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from transit_cli.device.environment import FALLBACK
from transit_cli.operators.prediction.registrations import STATUSES, OperatorTable, table
from transit_cli.results import ExitCode, Result, Table

if TYPE_CHECKING:
    from transit_cli.operators.prediction.rules import Incompatibility
    from transit_cli.operators.settings import FallbackPredictionSettings, OperatorTableSettings
    from transit_cli.operators.trace import Call

#: Samples of the traced step; the operators do not depend on it.
SAMPLES = 4

#: Severities that make the verdict negative.
BAD = ("refused", "wrong")


def operators(settings: OperatorTableSettings) -> Result:
    """Every operator of a torch version, with its status on MPS."""
    found = table(settings.torch)
    counts = Counter(found.statuses.values())
    data = {"operators": dict(found.statuses), "torch": found.torch, "source": found.source, "counts": dict(counts)}
    rows = Table(("operator", "on MPS"), list(found.statuses.items()), note=f"torch {found.torch}: {found.source}")
    parts = ", ".join(f"{counts[status]} {status}" for status in STATUSES)
    return Result(data, [rows], f"torch {found.torch}: {len(found.statuses)} operators, {parts}")


def predict(settings: FallbackPredictionSettings) -> Result:
    """The operators of the network's step, their status on MPS, and the shapes and types that MPS refuses."""
    from transit_cli.operators.prediction import rules
    from transit_cli.operators.step_factory import StepFactory
    from transit_cli.operators.trace import trace

    found = table(settings.torch)
    version = (int(found.torch.split(".")[0]), int(found.torch.split(".")[1]))
    calls = trace(StepFactory.of(settings), SAMPLES, found.statuses)
    used = _by_operator(calls, found)
    findings = rules.check(calls, version)
    lacking = [row for row in used if row["status"] not in {"native", "composite"}]
    data = {
        "target": "mps",
        "torch": found.torch,
        "source": found.source,
        "network": settings.network,
        "precision": settings.precision,
        "operators": {row["operator"]: row["status"] for row in used},
        "calls": used,
        "findings": [asdict(finding) for finding in findings],
    }
    shown = [row for row in used if row["status"] != "composite"]
    columns = ("operator", "on MPS", "forward", "backward", "update")
    composite = len(used) - len(shown)
    blocks = [
        Table(
            columns,
            [[row["operator"], row["status"], *(row[phase] or "" for phase in columns[2:])] for row in shown],
            title=f"One training step of {settings.network} on MPS, torch {found.torch} (calls)",
            note=f"and {composite} composite operators, which consist of these. Read from {found.source};\n"
            "not run on a Mac: an existing kernel may still compute wrong results",
        ),
    ]
    if findings:
        blocks.append(
            Table(
                ("operator", "verdict", "why", "change", "source"),
                [[f.operator, f.severity, f.found, f.fix, f.source] for f in findings],
                title="What MPS will not take as it is",
            )
        )
    bad = lacking or [finding for finding in findings if finding.severity in BAD]
    return Result(data, blocks, verdict(lacking, findings), exit_code=ExitCode.NEGATIVE if bad else ExitCode.DONE)


def _by_operator(calls: Counter[Call], found: OperatorTable) -> list[dict[str, Any]]:
    """One row per operator: status, and the number of calls in each phase."""
    rows: dict[str, dict[str, Any]] = {}
    for call, count in sorted(calls.items(), key=lambda item: item[0].operator):
        status = "composite" if call.composite else found.statuses.get(call.operator, "missing")
        row = rows.setdefault(
            call.operator, {"operator": call.operator, "status": status, "forward": 0, "backward": 0, "update": 0}
        )
        row[call.phase] += count
    return list(rows.values())


def verdict(lacking: list[dict[str, Any]], findings: list[Incompatibility]) -> str:
    """What to change, one line per problem."""
    lines = []
    refused = [finding for finding in findings if finding.severity in BAD]
    if refused:
        lines += [f"change your network: {finding.operator}: {finding.fix}" for finding in refused]
    missing = sorted(row["operator"] for row in lacking if row["status"] == "missing")
    if missing:
        calls = sum(row["forward"] + row["backward"] + row["update"] for row in lacking if row["status"] == "missing")
        lines.append(
            f"MPS lacks {', '.join(missing)}: set {FALLBACK}=1 before torch is imported (transit does), and each of "
            f"{calls} calls per step then waits for the GPU and copies to the CPU and back"
        )
    always = sorted(row["operator"] for row in lacking if row["status"] == "fallback")
    if always:
        lines.append(f"{', '.join(always)} runs on the CPU whatever the variable is set to")
    if not lines:
        lines.append("MPS has every operator of this step; nothing to do")
    doubtful = [finding for finding in findings if finding.severity not in BAD]
    lines += [f"watch {finding.operator}: {finding.found}" for finding in doubtful]
    return "\n".join(lines)
