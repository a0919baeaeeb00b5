"""`transit export`: a run's networks as one file of another format, compared with PyTorch where it can be run."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from transit_cli import console
from transit_cli.device.select import select
from transit_cli.export.exported import OUTPUTS, Exported, metadata, sample, sizes
from transit_cli.export.formats import FORMATS, silence
from transit_cli.packages import check_installed
from transit_cli.results import ExitCode, Result, Table, TransitError
from transit_cli.vetting.ensemble import open_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from transit_cli.export.formats import Arrays
    from transit_cli.export.settings import ExportSettings

#: Samples at once with which a file is compared: one, several, and more than was exported with.
BATCHES = (1, 2, 37, 100)
#: Largest difference of a score or a logit from PyTorch's (for logits beyond 1, a share of them): other kernels add in
#: another order, which gives 1e-7 to 1e-6.
TOLERANCE = 1e-4


def export(settings: ExportSettings) -> Result:
    """Write the file, and compare it.

    Raises:
        TransitError: a package is missing, there is no such run, or the format cannot hold its network.
    """
    kind = FORMATS[settings.format]
    for package in kind.packages:
        check_installed(package, kind.extra, f"--format {settings.format}")
    ensemble = open_run(settings.run, select("cpu"))
    network, inputs = Exported(ensemble), sizes(ensemble)
    folder = settings.run if settings.run.is_dir() else settings.run.parent
    file = settings.out or folder / f"model{kind.suffix}"
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=file.parent) as part:
        made = Path(part, f"model{kind.suffix}")  # some formats look at the suffix
        console.note(f"exporting {len(ensemble.networks)} network(s) to {settings.format}")
        with _in_our_words(settings), silence():
            kind.write(network, inputs, metadata(ensemble), made)
        differences = None
        if kind.run:
            with _in_our_words(settings), silence():
                differences = compare(network, kind.run(made, inputs), inputs)
        verified = differences is not None and max(differences.values()) <= TOLERANCE
        if differences is None or verified:
            _replace(made, file)
    return _result(settings, file, inputs, differences, kind.why_not_run)


@contextmanager
def _in_our_words(settings: ExportSettings) -> Iterator[None]:
    """Say that a network cannot be exported, whatever its exporter raises, or the runtime that tries the file."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # each exporter has its own
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise TransitError(
            f"{settings.run} cannot be exported to {settings.format}: {lines[0] if lines else type(error).__name__}",
            wanted="a network of operators that the format has, without choices that depend on its input",
            fix="try another --format",
            code="export-failed",
        ) from error


def compare(network: Exported, run: Callable[[Arrays], Arrays], inputs: Mapping[str, int]) -> dict[str, float]:
    """The largest difference of each output from PyTorch's, over batches of several sizes."""
    found = dict.fromkeys(OUTPUTS, 0.0)
    for rows in BATCHES:
        arrays = sample(inputs, rows)
        with torch.inference_mode():
            expected = network(*arrays)
        for name, theirs, ours in zip(OUTPUTS, run(arrays), expected, strict=True):
            apart = (theirs.reshape(ours.shape) - ours).abs() / ours.abs().clamp(min=1)
            worst = float(apart.max()) if bool(apart.isfinite().all()) else float("inf")
            found[name] = max(found[name], worst)
    return found


def _replace(made: Path, file: Path) -> None:
    """Put what was made in its place; a folder (.mlpackage) cannot replace one."""
    if file.is_dir():
        shutil.rmtree(file)
    made.replace(file)


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
    table = Table(("input", "shape", "type"), rows, note="how they are made stands in the file itself, as `transit`")
    if differences is None:
        return Result(data, [table], f"{file}: {why_not_run}", [f"{settings.format} is not verified: {why_not_run}"])
    worst = ", ".join(f"{name} {value:.1e}" for name, value in differences.items())
    if not verified:
        verdict = f"not kept: its numbers are not PyTorch's (largest difference: {worst}; tolerance {TOLERANCE:g})"
        return Result(data, [table], verdict, exit_code=ExitCode.NEGATIVE)
    return Result(data, [table], f"{file}: same numbers as PyTorch (largest difference: {worst})")
