"""Apple's own tools around a profile: signposts for Instruments, a capture for Xcode."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from transit_cli.results import ExitCode, TransitError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from transit_cli.profiling.settings import ProfileSettings

CAPTURE = "steps.gputrace"


def chosen(settings: ProfileSettings) -> list[AbstractContextManager[object]]:
    """The context managers that the settings request.

    Raises:
        TransitError: there is no MPS device, or captures were not enabled at the start of the process.
    """
    if not settings.signposts and not settings.metal_capture:
        return []
    from transit_cli.device import mps, select

    device = select.select(settings.device)
    option = "--signposts" if settings.signposts else "--metal-capture"
    if device.kind != "mps":
        raise TransitError(
            f"{option} is for MPS, and this runs on {device.kind}",
            wanted="an Apple GPU",
            fix="--trace works on every device",
            exit_code=ExitCode.MACHINE,
            code="device-absent",
        )
    contexts = [mps.signposts()] if settings.signposts else []
    if settings.metal_capture:
        if os.environ.get("MTL_CAPTURE_ENABLED") != "1":
            raise TransitError(
                "--metal-capture must be enabled before the process starts",
                wanted="MTL_CAPTURE_ENABLED=1 in the environment",
                fix="MTL_CAPTURE_ENABLED=1 transit profile --metal-capture",
                exit_code=ExitCode.MACHINE,
                code="metal-capture",
            )
        settings.out.mkdir(parents=True, exist_ok=True)
        contexts.append(mps.metal_capture(settings.out / CAPTURE))
    return contexts


def files(settings: ProfileSettings) -> list[Path]:
    """What these tools have written."""
    return [settings.out / CAPTURE] if settings.metal_capture else []
