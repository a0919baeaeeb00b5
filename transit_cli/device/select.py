"""Selects a device: the best available, or the one requested."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from transit_cli.device import environment
from transit_cli.results import ExitCode, TransitError

if TYPE_CHECKING:
    from transit_cli.device.base import Device, Kind

#: What `--device` may be.
Choice = Literal["auto", "mps", "cuda", "cpu"]


def available() -> dict[Kind, str]:
    """The kinds of device in order of preference, each with the reason why it is absent ("" if available)."""
    environment.prepare()
    from transit_cli.device import cuda, mps

    return {"mps": mps.why_absent(), "cuda": cuda.why_absent(), "cpu": ""}


def select(name: Choice | str = "auto") -> Device:
    """Open a device and warm it up.

    Args:
        name: "auto" (MPS, then CUDA, then the CPU), or a kind, which is then opened or refused, never replaced.

    Raises:
        TransitError: the requested device is not available, or fails at its first allocation.
    """
    absent: dict[Any, str] = available()
    kind = next(kind for kind, reason in absent.items() if not reason) if name == "auto" else name
    if kind not in absent:
        raise TransitError(
            f"there is no device {name!r}",
            wanted="auto, mps, cuda or cpu",
            fix="omit --device",
            exit_code=ExitCode.USAGE,
            code="device-unknown",
        )
    if absent[kind]:
        raise TransitError(
            f"the device {kind} is not available: {absent[kind]}",
            wanted="a device that this machine has",
            fix="omit --device, or run `transit doctor`",
            exit_code=ExitCode.MACHINE,
            code="device-absent",
        )
    try:
        return _open(kind)
    except (RuntimeError, NotImplementedError) as error:
        raise TransitError(
            f"the device {kind} fails at its first allocation: {str(error).splitlines()[0]}",
            wanted="a device that computes",
            fix="transit doctor, or --device cpu",
            exit_code=ExitCode.MACHINE,
            code="device-broken",
        ) from error


def _open(kind: Kind) -> Device:
    if kind == "mps":
        from transit_cli.device.mps import MpsDevice

        return MpsDevice()
    if kind == "cuda":
        from transit_cli.device.cuda import CudaDevice

        return CudaDevice()
    from transit_cli.device.cpu import CpuDevice

    return CpuDevice()
