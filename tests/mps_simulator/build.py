"""Build the device for the installed torch: once, outside the tree, by one of the processes that want it."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock

HERE = Path(__file__).parent
SOURCES = sorted((HERE / "src").glob("*.cpp"))
NAME = "mps_simulator_device"


class Unavailable(Exception):
    """This machine cannot build the device; the text says why."""


def library() -> Path:
    """The built device for the installed torch, built now if it has not been.

    Raises:
        Unavailable: there is no compiler, or this is not Linux.
        RuntimeError: the compiler refused the sources.
    """
    folder = _cache()
    built = folder / f"{NAME}.so"
    if built.exists():
        return built
    _check_machine()
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):  # workers of pytest-xdist and other checkouts wait here for the one that builds
        if not built.exists():
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                _compile(Path(scratch)).replace(built)
    return built


def operators() -> Path:
    """A file with the operators that the installed torch has an MPS kernel for, one a line ("add.out")."""
    path = _cache() / "operators.txt"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(f".{os.getpid()}")
        scratch.write_text("\n".join(sorted(_native_operators())))
        scratch.replace(path)
    return path


def _cache() -> Path:
    """One folder for a torch, a Python and a state of the sources: a change of any builds again."""
    content = hashlib.sha256()
    for source in (*SOURCES, HERE / "src" / "simulator.h", Path(__file__)):
        content.update(source.read_bytes())
    base = Path(os.environ.get("TRANSIT_TESTS_CACHE") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    return base / "transit-tests" / "mps-simulator" / f"torch-{version('torch')}-{python}-{content.hexdigest()[:12]}"


def _check_machine() -> None:
    if platform.system() != "Linux":
        raise Unavailable("the MPS simulator is built on Linux only")
    if shutil.which(os.environ.get("CXX", "c++")) is None:
        raise Unavailable("the MPS simulator needs a C++ compiler, and none was found (apt install g++)")
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        raise Unavailable("the MPS simulator needs Python's headers, and they were not found (apt install python3-dev)")


def _compile(folder: Path) -> Path:
    """Compile in another process: torch's extension builder imports much and leaves things set."""
    script = (
        "import sys; from torch.utils.cpp_extension import load; "
        "load(sys.argv[1], sys.argv[3:], build_directory=sys.argv[2], extra_cflags=['-O1'], is_python_module=False)"
    )
    command = [sys.executable, "-c", script, NAME, str(folder), *map(str, SOURCES)]
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # ninja may stand beside python
    environment = {key: value for key, value in os.environ.items() if key not in {"MPS_SIMULATOR", "PYTHONPATH"}}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env={**environment, "PATH": tools})
    built = folder / f"{NAME}.so"
    if not built.exists():
        raise RuntimeError(f"the MPS simulator does not build:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return built


def _native_operators() -> set[str]:
    """Operators with an MPS key of their own, or whose structured delegate has one.

    Read from torch's own declarations, independently of `transit_cli.operators`, which tests compare with this.
    """
    import yaml

    spec = find_spec("torchgen")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / "packaged" / "ATen" / "native" / "native_functions.yaml"
    keyed, delegates = set(), {}
    for entry in yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        name = entry["func"].split("(")[0]
        if any("MPS" in keys.replace(",", " ").split() for keys in entry.get("dispatch") or {}):
            keyed.add(name)
        if "structured_delegate" in entry:
            delegates[name] = entry["structured_delegate"]
    return keyed | {name for name, target in delegates.items() if target in keyed}
