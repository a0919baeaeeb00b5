"""Precisions: autocast and the gradient scaler of a device.

float16 needs a gradient scaler, bfloat16 does not. Weights stay float32 in either: only what autocast picks is halved.
"""

from __future__ import annotations

import contextlib
import platform
import warnings
from typing import TYPE_CHECKING, Literal

import torch

from transit_cli.results import ExitCode, TransitError

if TYPE_CHECKING:
    from transit_cli.device.base import Device, Precision

#: What `--precision` may be.
Choice = Literal["auto", "fp32", "fp16", "bf16"]

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def why_not(device: Device, precision: Precision) -> str:
    """Why a precision cannot be used on a device; "" if it can.

    torch only warns and computes in float32 for an unsupported type, so autocast itself is tried.
    """
    if precision == "fp32":
        return ""
    macos = platform.mac_ver()[0]
    if device.kind == "mps" and precision == "bf16" and macos and int(macos.split(".")[0]) < 14:
        return f"bfloat16 on MPS needs macOS 14, and this is {macos}"
    try:
        with warnings.catch_warnings(), torch.autocast(device.kind, dtype=DTYPES[precision]):
            warnings.simplefilter("ignore")
            if torch.is_autocast_enabled(device.kind):
                return ""
    except RuntimeError as error:
        return str(error).splitlines()[0].rstrip(".")
    return f"torch {torch.__version__} has no {precision} autocast for {device.kind}"


def resolve(device: Device, choice: Choice | str = "auto") -> Precision:
    """The precision to compute in.

    Args:
        device: where it was measured.
        choice: "auto" for the one measured best on this kind of device, or a precision.

    Raises:
        TransitError: the requested precision would silently be float32 here.
    """
    if choice == "auto":
        return device.best_precision
    precision = next((known for known in DTYPES if known == choice), None)
    reason = why_not(device, precision) if precision else "there is no such precision"
    if precision is None or reason:
        raise TransitError(
            f"the precision {choice} cannot be used on {device.kind}: {reason}",
            wanted="auto, " + " or ".join(known for known in DTYPES if not why_not(device, known)),
            fix="omit --precision",
            exit_code=ExitCode.MACHINE if precision else ExitCode.USAGE,
            code="precision-unsupported",
        )
    return precision


def autocast(device: Device, precision: Precision) -> contextlib.AbstractContextManager[object]:
    """The context of forward and loss, new for every step; float32 needs none."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.kind, dtype=DTYPES[precision])


def scaler(device: Device, precision: Precision) -> torch.amp.GradScaler:
    """The gradient scaler: enabled for float16 only."""
    return torch.amp.GradScaler(device.kind, enabled=precision == "fp16")
