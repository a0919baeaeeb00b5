"""What `transit bench` measured on this machine, for `transit train` to hold itself against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from transit_cli.measurements import recall, remember

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transit_cli.device.base import Device

KIND = "bench"


@dataclass(frozen=True)
class Work:
    """What was timed. Scalars are no part of it: they cost nothing beside the views.

    Attributes:
        network: by name.
        views: length of each view by name.
        batch_size: samples of a micro-batch.
        precision: arithmetic of the forward pass.
    """

    network: str
    views: Mapping[str, int]
    batch_size: int
    precision: str


def keep(work: Work, device: Device, speed: float, *, quiet: bool) -> None:
    """Remember the samples a second that training reached; a busy machine's never replace a quiet one's."""
    key = _key(work, device)
    if quiet or not (recall(KIND, key) or {}).get("quiet"):
        remember(KIND, key, {"samples_per_second": speed, "quiet": quiet})


def benched(work: Work, device: Device) -> float | None:
    """The samples a second that were kept; None where `transit bench` has not measured this here."""
    speed = (recall(KIND, _key(work, device)) or {}).get("samples_per_second")
    return float(speed) if isinstance(speed, int | float) and speed > 0 else None


def _key(work: Work, device: Device) -> str:
    lengths = " ".join(f"{name}={length}" for name, length in sorted(work.views.items()))
    machine = f"{device.kind} {device.facts.name} {torch.get_num_threads()} threads torch {torch.__version__}"
    return f"{work.network} {lengths} batch {work.batch_size} {work.precision} {machine}"
