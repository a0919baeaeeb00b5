"""Large and optional packages: imported where they are used, asked for before any work starts."""

from __future__ import annotations

import atexit
import gc
import importlib
import importlib.util
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from transit_cli.results import ExitCode, TransitError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: Packages that come with transit, and what needs them.
NEEDED = {"astropy": "FITS light curves", "matplotlib": "plots", "sklearn": "metrics", "scipy": "detrending"}
#: Optional packages: the extra that brings each, "" for one that is installed by its own name, and what it is for.
OPTIONAL = {
    "h5py": ("data", "HDF5 view sets"),
    "pyarrow": ("data", "light curves in Parquet"),
    "lightkurve": ("fetch", "data fetch by star"),
    "wotan": ("wotan", "--detrend"),
    "distributed": ("cluster", "--scheduler"),
    "tensorboard": ("tensorboard", "--tensorboard"),
    "onnx": ("export", "export to ONNX"),
    "expecttest": ("", "fallback-test all-ops"),
}


def absent(packages: Iterable[str]) -> list[str]:
    """Those of some packages that are not installed; none is imported."""
    return [name for name in packages if importlib.util.find_spec(name) is None]


def require(package: str, extra: str, purpose: str) -> Any:
    """Import an optional package.

    Args:
        package: the module to import.
        extra: transit's extra that brings it; "" for a package that none brings, installed by its own name.
        purpose: what needs it: "--plot", "reading HDF5".

    Returns:
        The module.

    Raises:
        TransitError: it is not installed (code `package-missing`).
    """
    check_installed(package, extra, purpose)
    return importlib.import_module(package)


def check_installed(package: str, extra: str, purpose: str) -> None:
    """Raise the error of `require` without importing, for packages that are slow to import or used elsewhere."""
    if importlib.util.find_spec(package) is None:
        raise missing(package, extra, purpose)


def missing(package: str, extra: str, purpose: str) -> TransitError:
    """The error for a package that is not installed."""
    name = package.replace("_", "-")
    return TransitError(
        f"the package {name!r} is not installed",
        wanted=f"the package {name!r}, for {purpose}",
        fix=f'pip install "transit-cli[{extra}]"' if extra else f"pip install {name}",
        exit_code=ExitCode.MACHINE,
        code="package-missing",
    )


@contextmanager
def collector_paused(*, freeze: bool = False) -> Iterator[None]:
    """Pause the collector of reference cycles while large packages are imported, which create much and free nothing.

    Importing torch took 0.16 s less, of 1.9 s.

    Args:
        freeze: exempt everything that exists at the end from later collections, which would visit torch's half a
            million objects. Once in a process, at its start: cycles that are garbage by then stay in memory.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        if freeze and not gc.get_freeze_count():
            gc.freeze()
            atexit.register(gc.unfreeze)  # or extension modules would report leaks when the process ends
    finally:
        if enabled:
            gc.enable()
