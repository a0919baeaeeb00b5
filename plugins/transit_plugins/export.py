"""Export a run as ONNX, ExecuTorch, Core ML or TorchScript.

The file holds all networks of the run and the description of their inputs. It is compared with PyTorch if the format
can be run on this machine; if the results differ, no file is kept and the exit code is 1.

    transit export runs/triage --format onnx
"""

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
    from transit_cli.export.export import export

    return export(settings)
