"""Write a run's networks as one ONNX, ExecuTorch, Core ML or TorchScript file, and verify it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from transit_cli.command import command
from transit_cli.export.settings import ExportSettings

if TYPE_CHECKING:
    from transit_cli.results import Result

app = typer.Typer()


@command(app, ExportSettings)
def export(settings: ExportSettings) -> Result:
    """Write a run's networks as one ONNX, ExecuTorch, Core ML or TorchScript file, and verify it.

    The file holds all members, and what its inputs are and how they are made. It is compared with PyTorch's numbers
    where the format can be run on this machine; exits 1, and keeps nothing, where they differ.
    """
    from transit_cli.export.export import export

    return export(settings)
