"""One row of the doctor's answer, and the ids of the rows that need torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warn", "fail", "skip"]


@dataclass(frozen=True)
class CheckResult:
    """What one check found.

    Attributes:
        id: its name, for `--only` and for scripts; stable.
        status: "ok"; "warn", worth knowing; "fail", training will not work or not be right; "skip", does not apply.
        found: what is there.
        wanted: what should be there; "" where nothing is missing.
        why: what happens otherwise.
        fix: one line of shell that puts it right; "" where there is none.
    """

    id: str
    status: Status
    found: str
    wanted: str = ""
    why: str = ""
    fix: str = ""


#: The rows that need torch, in their order: torch itself, then each device and the parts of its proof.
DEVICE_CHECKS = (
    "torch",
    *("mps", "mps-memory", "mps-step", "mps-strided", "mps-fp16", "mps-bf16"),
    *("cuda", "cuda-memory", "cuda-step", "cuda-strided", "cuda-fp16", "cuda-bf16"),
    *("cpu", "cpu-step", "cpu-strided", "cpu-fp16", "cpu-bf16"),
)
