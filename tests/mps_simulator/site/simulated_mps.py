"""The simulated device inside the process that has it: `import simulated_mps` in a script run by `run_on_mps`.

`MPS_SIMULATOR` holds JSON: library, operators, root (paths), faults (argument lists), memory_limit and recommended_memory
(bytes; 0 for none and for the default), report (a path, to which the process appends its counters when it ends).
"""

from __future__ import annotations

import atexit
import json
import os
import sys
import time
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import simulated_metal

#: What `torch.backends.mps.get_name()` says here.
NAME = "Apple M4 (simulated)"
CORES = 10

#: Registered on MPS as a CPU fallback that runs whether or not the variable is set.
ALWAYS_FALLBACK = ["embedding_renorm_"]

_device: Any = None


def start() -> None:
    """Load the device into this process. torch has just been imported."""
    global _device  # noqa: PLW0603 - one process has one device
    import torch

    settings = json.loads(os.environ["MPS_SIMULATOR"])
    loader = ExtensionFileLoader("mps_simulator_device", settings["library"])
    spec = spec_from_file_location("mps_simulator_device", settings["library"], loader=loader)
    _device = module_from_spec(spec)
    loader.exec_module(_device)
    native = Path(settings["operators"]).read_text().split()
    _device.set_operators([*native, "copy_", "_local_scalar_dense"], ALWAYS_FALLBACK, torch.version.git_version)
    simulated_metal.install(settings["root"])
    if settings.get("recommended_memory"):
        _device.set_recommended_memory(settings["recommended_memory"])
    _device.set_memory_limit(settings.get("memory_limit") or 0)
    for fault in settings.get("faults", ()):
        add_fault(**fault)
    torch._C._has_mps = True  # what torch.backends.mps.is_built() reads
    for name, function in {  # a torch built without MPS lacks these
        "_mps_get_name": lambda: NAME,
        "_mps_get_core_count": lambda: CORES,
        "_mps_isCaptureEnabled": lambda: False,
        "_mps_is_in_bad_fork": lambda: False,
    }.items():
        setattr(torch._C, name, function)
    torch.storage._StorageBase.mps = _storage_on_mps  # torch.load asks for it, and storages cannot be made on devices
    if settings.get("report"):
        atexit.register(_report, settings["report"])
    if int(os.environ.get("PYTORCH_MPS_LOG_PROFILE_INFO", "0")) & 64:
        atexit.register(_print_fallback_statistics)
    # Autograd's thread for the device may still be letting go of Python objects when the last backward has returned. If
    # Python ends meanwhile, that thread is killed inside a destructor and takes the process with it (seen on a busy
    # machine, once in some fifty runs).
    atexit.register(time.sleep, 0.05)


def counters() -> dict[str, dict[str, int]]:
    """How often what happened here: {"ran": ..., "fell_back": ..., "synchronised": ..., "launched": Metal kernels}."""
    return _device.counters() | {"launched": dict(simulated_metal.launches)}


def reset_counters() -> None:
    """Begin to count anew."""
    _device.reset_counters()
    simulated_metal.launches.clear()
    simulated_metal.moved.clear()


def set_memory_limit(size: int) -> None:
    """Let the device have `size` bytes; 0 removes the limit."""
    _device.set_memory_limit(size)


def add_fault(
    kind: str,
    operator: str,
    value: float = 0.5,
    *,
    strided: bool = False,
    dtype: str = "",
    size: int = 0,
    call: int = 1,
) -> None:
    """Plant a fault from here on; `tests.mps_simulator.faults.Fault` says what they mean."""
    if operator.startswith("metal."):
        simulated_metal.add_fault({"kind": kind, "operator": operator, "value": value, "call": call})
    else:
        _device.add_fault(kind, operator, value, strided, dtype, size, call)


def clear_faults() -> None:
    """Remove every fault."""
    _device.clear_faults()
    simulated_metal.clear_faults()


def _storage_on_mps(storage: Any) -> Any:
    import torch

    return torch.empty(0, dtype=torch.uint8).set_(storage).to("mps").untyped_storage()


def _report(path: str) -> None:
    line = json.dumps({"argv": sys.argv, **counters()}) + "\n"
    with Path(path).open("a") as file:  # one write of one line: processes that end together do not mix theirs
        file.write(line)


def _print_fallback_statistics() -> None:
    """What bit 64 of PYTORCH_MPS_LOG_PROFILE_INFO prints as a process ends, in its layout (MPSProfiler.mm).

    The calls are counted; the times and sizes are made up, one millisecond and one KB a call.
    """
    rows = counters()["fell_back"]
    if not rows:
        print("There are no CPU Fallbacks logged for profiling", file=sys.stderr)
        return
    runs = sum(rows.values())
    title = f" CPU Fallback Profiling: Total {runs} Runs, {runs:.2f} ms, {runs:.2f} KB Copies "
    names = ("#Runs", "Mean CPU(ms)", "Total CPU(ms)", "Copy Overhead")
    head = f"{'ID':^5}|{names[0]:^7}|{names[1]:^14}|{names[2]:^15}|{names[3]:^15}| Operation Name"
    lines = [
        f"{number:^6}{count:^8}{'1.000':^15}{f'{count:.3f}':^16}{f'{count:.2f} KB':^16} aten::{name}"
        for number, (name, count) in enumerate(rows.items(), 1)
    ]
    print(f"\n{title:-^150}\n{head}\n{'':-^150}", *lines, sep="\n", file=sys.stderr)
