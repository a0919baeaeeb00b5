"""Training speeds measured by `transit bench` on this machine, for `transit train` to compare itself with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from transit_cli.utils.cache import MeasurementCache

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transit_cli.device.base import Device

_speeds = MeasurementCache("bench")


@dataclass(frozen=True)
class RecordKey:
    """What was timed. Scalars are not part of it: their cost is negligible.

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


def keep(work: RecordKey, device: Device, speed: float, *, quiet: bool) -> None:
    """Store training's samples/s; a speed from a busy machine never replaces one from a quiet machine."""
    key = _key(work, device)
    if quiet or not (_speeds.get(key) or {}).get("quiet"):
        _speeds.put(key, {"samples_per_second": speed, "quiet": quiet})


def benched(work: RecordKey, device: Device) -> float | None:
    """The stored samples/s; None if `transit bench` has not measured this on this machine."""
    speed = (_speeds.get(_key(work, device)) or {}).get("samples_per_second")
    return float(speed) if isinstance(speed, int | float) and speed > 0 else None


def _key(work: RecordKey, device: Device) -> str:
    lengths = " ".join(f"{name}={length}" for name, length in sorted(work.views.items()))
    machine = f"{device.kind} {device.facts.name} {torch.get_num_threads()} threads torch {torch.__version__}"
    return f"{work.network} {lengths} batch {work.batch_size} {work.precision} {machine}"
