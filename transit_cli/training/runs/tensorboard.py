"""The lines of metrics.jsonl for TensorBoard too (`--tensorboard`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FOLDER = "tensorboard"


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
            if name not in {"fit", "step"} and isinstance(value, int | float):
                self._writers[fit].add_scalar(name, value, step)
        self._writers[fit].flush()
