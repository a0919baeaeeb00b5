"""`transit train --batch-size auto`: the best batch by a short probe, cached for this machine."""

from __future__ import annotations

import hashlib
import json
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from transit_cli import console
from transit_cli.device import host
from transit_cli.tuning.batch_probe import SHARED, find, training_rows
from transit_cli.tuning.settings import ProbeSettings
from transit_cli.utils.cache import MeasurementCache

if TYPE_CHECKING:
    from transit_cli.training.settings import RunSettings

_batches = MeasurementCache("batch")


def best_batch(settings: RunSettings) -> int:
    """The best batch for a run, from the cache or probed now.

    Raises:
        TransitError: as `find`.
    """
    asked = ProbeSettings(
        viewset=settings.viewset,
        memory_limit=settings.memory_limit,
        only_best=True,
        **{name: getattr(settings, name) for name in SHARED},
    )
    key = _key(asked)
    if found := _batches.get(key):
        console.note(f"batch size {found['batch']}, as probed on {found['date']}")
        return int(found["batch"])
    answer, _ = find(asked)
    _batches.put(key, {"batch": answer.best.size, "date": date.today().isoformat()})  # noqa: DTZ011 - a local date
    console.note(f"batch size {answer.best.size}, the smallest within 5 % of the best throughput")
    return answer.best.size


def _key(asked: ProbeSettings) -> str:
    """Everything that the answer depends on: machine, torch, network and source, inputs, precision, limit, rows."""
    facts = {name: getattr(asked, name) for name in (*SHARED, "memory_limit")}
    source = Path(asked.network.rpartition(":")[0]).expanduser() if ":" in asked.network else None
    facts |= {
        "machine": [host.processor_name(), host.usable_cores(), host.memory_bytes()],
        "torch": version("torch"),
        "transit": version("transit-cli"),
        "source": hashlib.sha256(source.read_bytes()).hexdigest() if source and source.is_file() else "",
        "rows": training_rows(asked.viewset) if asked.viewset else 0,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
