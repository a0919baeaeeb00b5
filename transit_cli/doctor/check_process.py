"""The checks that need torch, in a child process (`transit_cli.utils.isolation`).

A broken torch may abort the process that imports it, and Metal's compiler aborts on what it cannot compile. The child
sends one event when a check begins and one with its result, so that the parent (`doctor.check_runner`) knows which
check the child died in.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from transit_cli.device import environment
from transit_cli.doctor.check import CheckResult
from transit_cli.results import TransitError
from transit_cli.utils import isolation

if TYPE_CHECKING:
    from collections.abc import Callable

    from transit_cli.doctor.device_checks import DeviceChecks

WANTED = "torch 2.8 or later"
REINSTALL = 'pip install --force-reinstall "torch>=2.8"'


def run_job(job: dict[str, Any], emit: Callable[[dict[str, Any]], None]) -> None:
    """Run the checks `job["checks"]`, in that order, on `job["device"]`: the device asked for, or "auto"."""
    with contextlib.suppress(TransitError):  # the parent has removed fatal variables; they have checks of their own
        environment.prepare()
    devices = Devices(job["device"])
    usable = True
    for row_id in job["checks"]:
        emit({"begin": row_id})
        if row_id == "torch":
            row = torch_check()
            usable = row.status == "ok"
        elif usable:
            row = devices.row(row_id)
        else:
            row = CheckResult(row_id, "skip", "torch cannot be used")
        emit(asdict(row))


def torch_check() -> CheckResult:
    """Import torch and create a tensor: a partial installation may still import."""
    begun = time.perf_counter()
    why = "nothing trains"
    try:
        import torch

        version = torch.__version__
        torch.zeros(1)
    except ModuleNotFoundError as error:
        if error.name == "torch":
            return CheckResult("torch", "fail", "torch is not installed", WANTED, why, 'pip install "torch>=2.8"')
        return CheckResult("torch", "fail", f"torch lacks the package {error.name!r}", WANTED, why, REINSTALL)
    except Exception as error:  # noqa: BLE001 - a partial installation fails in many ways
        return CheckResult(
            "torch", "fail", f"torch is broken: {type(error).__name__}: {first_line(error)}", WANTED, why, REINSTALL
        )
    if tuple(int(part) for part in version.split(".")[:2]) < (2, 8):
        why = "before 2.8 the gradient scaler does not work on MPS"
        return CheckResult("torch", "fail", version, WANTED, why, 'pip install --upgrade "torch>=2.8"')
    return CheckResult("torch", "ok", f"{version}, imported in {time.perf_counter() - begun:.1f} s")


class Devices:
    """The checks of devices. A device is opened at its first check."""

    def __init__(self, choice: str) -> None:
        self._choice = choice
        self._opened: dict[str, CheckResult] = {}
        self._proofs: dict[str, DeviceChecks] = {}

    def row(self, row_id: str) -> CheckResult:
        """The result for a device ("mps") or for a part of it ("mps-step")."""
        from transit_cli.doctor.device_checks import CHECKS, failure, operator

        kind, _, part = row_id.partition("-")
        if kind not in self._opened:
            self._opened[kind] = self._open(kind)
        opened = self._opened[kind]
        if not part:
            return opened
        if kind not in self._proofs:
            return CheckResult(row_id, "skip", opened.found)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                row = CHECKS[part](self._proofs[kind])
            except Exception as error:  # noqa: BLE001 - any error of torch becomes a result
                return failure(row_id, error, self._proofs[kind].device)
        fell = next((str(one.message) for one in caught if "fall back to run on the CPU" in str(one.message)), "")
        if fell and row.status == "ok":  # torch warns once per process, for the first operator
            found = f"{operator(fell)} runs on the CPU, possibly others too"
            why = "this torch has no such operator for MPS, so every step copies to the CPU and back"
            return replace(row, status="warn", found=found, why=why, fix="transit fallback-test")
        return row

    def _open(self, kind: str) -> CheckResult:
        from transit_cli.device.select import available, select
        from transit_cli.doctor.device_checks import DeviceChecks

        reason = next(reason for known, reason in available().items() if known == kind)
        if reason and self._choice == kind:
            why = "it was requested by --device"
            return CheckResult(kind, "fail", reason, f"a device {kind}", why, "transit doctor --device auto")
        if reason:
            return CheckResult(kind, "skip", reason)
        try:
            device = select(kind)
        except TransitError as error:
            return CheckResult(kind, "fail", error.found, error.wanted, "nothing trains on it", error.fix)
        self._proofs[kind] = DeviceChecks(device)
        facts = device.facts
        if kind == "cuda":
            return CheckResult(kind, "ok", f"{facts.name}, {facts.software}")
        return CheckResult(kind, "ok", "built, available, opened" if kind == "mps" else facts.software)


def first_line(error: Exception) -> str:
    """An error's first line, or its class if it has no message."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


if __name__ == "__main__":
    isolation.serve(run_job)
