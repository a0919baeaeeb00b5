"""The lines of metrics.jsonl for TensorBoard too (`--tensorboard`)."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from transit_cli.results import ExitCode, TransitError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FOLDER = "tensorboard"


def require() -> None:
    """Raise the error for a missing TensorBoard, before anything has been trained."""
    if importlib.util.find_spec("tensorboard") is None:
        raise TransitError(
            "TensorBoard is not installed",
            wanted="the extra that --tensorboard needs",
            fix='pip install "transit-cli[tensorboard]"',
            exit_code=ExitCode.MACHINE,
            code="package-missing",
        )


class Board:
    """Event files of a run, a folder a fit: `tensorboard --logdir RUN/tensorboard` shows them side by side."""

    def __init__(self, run: Path) -> None:
        self._folder = run / FOLDER
        self._writers: dict[str, Any] = {}

    def log(self, record: Mapping[str, Any]) -> None:
        """Write the numbers of one line of metrics at its optimizer step.

        What a stopped process wrote beyond the checkpoint that was gone on from is hidden by the first new line.
        """
        from torch.utils.tensorboard import SummaryWriter

        fit, step = record["fit"], record["step"]
        if fit not in self._writers:
            self._writers[fit] = SummaryWriter(self._folder / fit, purge_step=step)
        for name, value in record.items():
            if name not in {"fit", "step"}:
                self._writers[fit].add_scalar(name, value, step)
        self._writers[fit].flush()
