"""The result of one check of the doctor, and the ids of the checks that need torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warn", "fail", "skip"]


@dataclass(frozen=True)
class CheckResult:
    """What one check found.

    Attributes:
        id: stable name, for `--only` and scripts.
        status: "ok"; "warn"; "fail": training fails or is wrong; "skip": not applicable.
        found: what was found.
        wanted: what is expected; "" if nothing is missing.
        why: the consequence.
        fix: one shell command that solves it; "" if there is none.
    """

    id: str
    status: Status
    found: str
    wanted: str = ""
    why: str = ""
    fix: str = ""


#: The checks that need torch, in order: torch itself, then each device and its parts.
DEVICE_CHECKS = (
    "torch",
    *("mps", "mps-memory", "mps-step", "mps-strided", "mps-fp16", "mps-bf16"),
    *("cuda", "cuda-memory", "cuda-step", "cuda-strided", "cuda-fp16", "cuda-bf16"),
    *("cpu", "cpu-step", "cpu-strided", "cpu-fp16", "cpu-bf16"),
)
