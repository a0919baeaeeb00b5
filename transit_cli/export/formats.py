"""The formats: how each is written, and how it is run for comparison with PyTorch.

Each package is imported where it is used; `export` checks that `Format.packages` are installed before it starts.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from transit_cli.export.exported import OUTPUTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from torch import nn

Arrays = tuple[Tensor, ...]

#: Largest batch of the formats that need a bound.
LARGEST_BATCH = 1024
#: Name of the metadata in every format.
KEY = "transit"


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        suffix: suffix of its files.
        packages: modules that it needs.
        extra: of transit that brings them; "" if they are installed by their own names.
        write: function of network, sizes of the inputs by name, metadata and file that writes the file.
        run: function of file and sizes of the inputs that returns the file as a function; None if it cannot run here.
        why_not_run: why it cannot run here.
    """

    suffix: str
    packages: tuple[str, ...]
    extra: str
    write: Callable[[nn.Module, Mapping[str, int], str, Path], None]
    run: Callable[[Path, Mapping[str, int]], Callable[[Arrays], Arrays]] | None
    why_not_run: str = ""


def _batches(inputs: Mapping[str, int], largest: int) -> tuple[tuple[dict[int, torch.export.Dim], ...]]:
    """Dynamic shapes of a network of positional arrays, whose first dimension is the batch."""
    batch = torch.export.Dim("batch", min=1, max=largest)
    return (tuple({0: batch} for _ in inputs),)


def _example(inputs: Mapping[str, int], rows: int = 2) -> Arrays:
    return tuple(torch.zeros(rows, length) for length in inputs.values())


def _write_onnx(network: nn.Module, inputs: Mapping[str, int], metadata: str, file: Path) -> None:
    program = torch.onnx.export(
        network,
        _example(inputs),
        dynamo=True,
        input_names=list(inputs),
        output_names=list(OUTPUTS),
        dynamic_shapes=_batches(inputs, 65_535),
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props[KEY] = metadata
    program.save(str(file), external_data=False)


def _run_onnx(file: Path, inputs: Mapping[str, int]) -> Callable[[Arrays], Arrays]:
    import onnxruntime  # type: ignore[import-not-found]  # optional

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

    def run(arrays: Arrays) -> Arrays:
        feed = {name: array.numpy() for name, array in zip(inputs, arrays, strict=True)}
        return tuple(torch.from_numpy(output) for output in session.run(list(OUTPUTS), feed))

    return run


def _write_torchscript(network: nn.Module, inputs: Mapping[str, int], metadata: str, file: Path) -> None:
    with torch.no_grad():
        traced = torch.jit.trace(network, _example(inputs))
    buffer = io.BytesIO()  # on a full disk, torch.jit.save to a file aborts the process
    torch.jit.save(traced, buffer, _extra_files={f"{KEY}.json": metadata})
    file.write_bytes(buffer.getbuffer())


def _run_torchscript(file: Path, _: Mapping[str, int]) -> Callable[[Arrays], Arrays]:
    loaded = torch.jit.load(str(file))
    return lambda arrays: loaded(*arrays)


def _write_executorch(network: nn.Module, inputs: Mapping[str, int], metadata: str, file: Path) -> None:
    from executorch.backends.xnnpack.partition import xnnpack_partitioner  # type: ignore[import-not-found]  # optional
    from executorch.exir import to_edge_transform_and_lower  # type: ignore[import-not-found]  # optional

    # Lowering specialises the batch to one side of 16, that of the example, and takes the upper end as the largest
    # batch of the file. Smaller batches run too, and are compared.
    example = _example(inputs, 64)
    program = torch.export.export(network, example, dynamic_shapes=_batches(inputs, LARGEST_BATCH))
    partitioner = xnnpack_partitioner.XnnpackPartitioner()
    lowered = to_edge_transform_and_lower(program, partitioner=[partitioner], constant_methods={KEY: metadata})
    file.write_bytes(lowered.to_executorch().buffer)


def _run_executorch(file: Path, _: Mapping[str, int]) -> Callable[[Arrays], Arrays]:
    from executorch.runtime import Runtime  # type: ignore[import-not-found]  # optional

    program = Runtime.get().load_program(str(file))
    method = program.load_method("forward")
    return lambda arrays: tuple(method.execute(list(arrays)))


def _write_coreml(network: nn.Module, inputs: Mapping[str, int], metadata: str, file: Path) -> None:
    import coremltools  # type: ignore[import-not-found]  # optional

    with torch.no_grad():
        traced = torch.jit.trace(network, _example(inputs))
    batch = coremltools.RangeDim(1, LARGEST_BATCH, default=1)
    model = coremltools.convert(
        traced,
        inputs=[coremltools.TensorType(name=name, shape=(batch, length)) for name, length in inputs.items()],
        outputs=[coremltools.TensorType(name=name) for name in OUTPUTS],
        convert_to="mlprogram",
        minimum_deployment_target=coremltools.target.macOS13,
        compute_precision=coremltools.precision.FLOAT32,
    )
    model.user_defined_metadata[KEY] = metadata
    model.save(str(file))


def _run_coreml(file: Path, inputs: Mapping[str, int]) -> Callable[[Arrays], Arrays]:
    import coremltools  # type: ignore[import-not-found]  # optional

    model = coremltools.models.MLModel(str(file))

    def run(arrays: Arrays) -> Arrays:
        found = model.predict({name: array.numpy() for name, array in zip(inputs, arrays, strict=True)})
        return tuple(torch.as_tensor(found[name]) for name in OUTPUTS)

    return run


_ON_MAC = sys.platform == "darwin"

FORMATS: Mapping[str, Format] = {
    "onnx": Format(".onnx", ("onnx", "onnxscript", "onnxruntime"), "export", _write_onnx, _run_onnx),
    "executorch": Format(".pte", ("executorch",), "", _write_executorch, _run_executorch),
    "coreml": Format(
        ".mlpackage",
        ("coremltools",),
        "",
        _write_coreml,
        _run_coreml if _ON_MAC else None,
        "" if _ON_MAC else "Core ML runs only on Apple systems: converted, but not run",
    ),
    "torchscript": Format(".ts", (), "", _write_torchscript, _run_torchscript),
}


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Suppress the exporters' output, logs and warnings, which are for their developers."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        nowhere = io.StringIO()
        with warnings.catch_warnings(), contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
