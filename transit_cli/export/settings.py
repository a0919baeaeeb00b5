"""Settings of `transit export`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from transit_cli.config import Flag, Positional, Settings


@dataclass(frozen=True, kw_only=True)
class ExportSettings(Settings):
    """What `transit export` writes."""

    run: Annotated[Path, Positional("RUN")]
    "Folder that `transit train` wrote."

    format: Literal["onnx", "executorch", "coreml", "torchscript"]
    "Format: onnx (any runtime), executorch (phones, embedded), coreml (Apple), torchscript (C++ with libtorch)."

    output: Annotated[Path | None, Flag("-o")] = None
    "File to write; unless given, model.onnx, .pte, .mlpackage or .ts in RUN."
