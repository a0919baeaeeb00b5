"""`transit export`: the networks of a run as one file of another format, verified against PyTorch."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from transit_cli import console
from transit_cli.device.select import select
from transit_cli.export.exported import OUTPUTS, Exported, metadata, sample, sizes
from transit_cli.export.formats import FORMATS, silence
from transit_cli.results import ExitCode, Result, Table, TransitError
from transit_cli.utils.files import publish, remove_abandoned, temporary_folder
from transit_cli.utils.packages import check_installed
from transit_cli.vetting.ensemble import open_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from transit_cli.export.formats import Arrays, Format
    from transit_cli.export.settings import ExportSettings

#: Batch sizes with which a file is compared, below and above that of the export.
BATCHES = (1, 2, 37, 100)
#: Largest difference from PyTorch of a score or a logit (relative for logits beyond 1). Other kernels sum in another
#: order, which gives 1e-7 to 1e-6.
TOLERANCE = 1e-4
#: What every export contains, and the file of an .mlpackage that contains it.
MARKER, MODEL_OF_PACKAGE = b'"transit_export"', "Data/com.apple.CoreML/model.mlmodel"


def export(settings: ExportSettings) -> Result:
    """Write the file and compare its outputs with PyTorch's.

    Raises:
        TransitError: a package is missing, the run does not exist, the format does not support its network, or the
            output would replace something that is not an export.
    """
    kind = FORMATS[settings.format]
    for package in kind.packages:
        check_installed(package, kind.extra, f"--format {settings.format}")
    file = _output_file(settings, kind)
    ensemble = open_run(settings.run, select("cpu"), trust=settings.trust)
    network, inputs = Exported(ensemble), sizes(ensemble)
    with temporary_folder(file.parent) as folder:
        remove_abandoned(file.parent)
        made = folder / f"model{kind.suffix}"  # some formats check the suffix
        console.note(f"exporting {len(ensemble.networks)} network(s) to {settings.format}")
        with _export_errors(settings), silence():
            kind.write(network, inputs, metadata(ensemble), made)
        differences = None
        if kind.run:
            with _export_errors(settings), silence():
                differences = compare(network, kind.run(made, inputs), inputs)
        verified = differences is not None and max(differences.values()) <= TOLERANCE
        if differences is None or verified:
            refuse_other(file, settings.format)
            if file.is_dir():  # an .mlpackage, which a rename cannot replace; removed with the temporary folder
                file.rename(folder / "previous")
            publish(made, file)
    return _result(settings, file, inputs, differences, kind.why_not_run)


def _output_file(settings: ExportSettings, kind: Format) -> Path:
    """The file to write: in RUN by default, in --out if that is a folder."""
    folder = settings.run if settings.run.is_dir() else settings.run.parent
    file = settings.out or folder
    if file.is_dir() and file.suffix != ".mlpackage":
        file /= f"model{kind.suffix}"
    refuse_other(file, settings.format)
    return file


def refuse_other(path: Path, format_name: str) -> None:
    """Raise the error for an existing file or folder that `transit export` did not write."""
    if not path.exists() and not path.is_symlink():
        return
    content = (path,) if path.is_file() else (path / MODEL_OF_PACKAGE,)
    if not any(file.is_file() and MARKER in file.read_bytes() for file in content):
        raise TransitError(
            f"{path} exists, and `transit export` did not write it",
            wanted="a name that is free, or that of an earlier export",
            fix=f"transit export RUN --format {format_name} --out ANOTHER_NAME",
            code="output-exists",
        )


@contextmanager
def _export_errors(settings: ExportSettings) -> Iterator[None]:
    """Raise any exception of an exporter, or of the runtime that runs the file, as a TransitError."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # each exporter raises its own
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise TransitError(
            f"{settings.run} cannot be exported to {settings.format}: {lines[0] if lines else type(error).__name__}",
            wanted="a network of operators that the format supports, without control flow that depends on its input",
            fix="try another --format",
            code="export-failed",
        ) from error


def compare(network: Exported, run: Callable[[Arrays], Arrays], inputs: Mapping[str, int]) -> dict[str, float]:
    """The largest difference from PyTorch of each output, over several batch sizes."""
    largest = dict.fromkeys(OUTPUTS, 0.0)
    for rows in BATCHES:
        arrays = sample(inputs, rows)
        with torch.inference_mode():
            expected = network(*arrays)
        for name, actual, reference in zip(OUTPUTS, run(arrays), expected, strict=True):
            error = (actual.reshape(reference.shape) - reference).abs() / reference.abs().clamp(min=1)
            worst = float(error.max()) if bool(error.isfinite().all()) else float("inf")
            largest[name] = max(largest[name], worst)
    return largest


def _result(
    settings: ExportSettings,
    file: Path,
    inputs: Mapping[str, int],
    differences: Mapping[str, float] | None,
    why_not_run: str,
) -> Result:
    verified = differences is not None and max(differences.values()) <= TOLERANCE
    data: dict[str, Any] = {
        "file": file if verified or differences is None else None,
        "format": settings.format,
        "inputs": {name: ["batch", length] for name, length in inputs.items()},
        "outputs": list(OUTPUTS),
        "verified": verified,
        "largest_difference": differences,
        "tolerance": TOLERANCE,
        "not_run_because": why_not_run or None,
    }
    rows = [(name, f"batch x {length}", "float32") for name, length in inputs.items()]
    table = Table(("input", "shape", "type"), rows, note="the file's metadata `transit` describes how they are made")
    if differences is None:
        return Result(data, [table], f"{file}: {why_not_run}", [f"{settings.format} is not verified: {why_not_run}"])
    worst = ", ".join(f"{name} {value:.1e}" for name, value in differences.items())
    if not verified:
        verdict = f"discarded: its outputs differ from PyTorch's (largest difference: {worst}; tolerance {TOLERANCE:g})"
        return Result(data, [table], verdict, exit_code=ExitCode.NEGATIVE)
    return Result(data, [table], f"{file}: same outputs as PyTorch (largest difference: {worst})")
