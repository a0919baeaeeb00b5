"""Settings of `transit export`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from transit_cli.config import Positional, Settings
from transit_cli.options import OUT


@dataclass(frozen=True, kw_only=True)
class ExportSettings(Settings):
    """What `transit export` writes."""

    run: Annotated[Path, Positional("RUN")]
    "Folder that `transit train` wrote."

    format: Literal["onnx", "executorch", "coreml", "torchscript"]
    "Format: onnx (any runtime), executorch (phones, embedded), coreml (Apple), torchscript (C++ with libtorch)."

    out: Annotated[Path | None, OUT] = None
    "File or folder to write to; by default model.onnx, .pte, .mlpackage or .ts in RUN."

    trust: bool = False
    "Execute the Python file of RUN's own network; use it only if you trust who wrote the run."
