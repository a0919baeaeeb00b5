"""Run a script, a function or `transit` itself in a child process that has the simulated device.

The device must be there before anything asks for it, and it is a whole process's: hence children. Their own children
have it too, with the same faults and limits, because everything goes by environment variables.

From a shell:

    python -m tests.mps_simulator.run [--fault FAULT]... [--memory-limit BYTES] [--recommended-memory BYTES] -- doctor
    python -m tests.mps_simulator.run --python [...] -- my_script.py
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import subprocess
import sys
import tempfile
import textwrap
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.mps_simulator import build
from tests.mps_simulator.faults import Fault

ROOT = Path(__file__).parents[2]
SITE = Path(__file__).with_name("site")

#: Variables that change what MPS does; a child gets those that its test gives, and none from around the test.
OWN_VARIABLES = ("PYTORCH_ENABLE_MPS_FALLBACK", "PYTORCH_MPS_HIGH_WATERMARK_RATIO", "PYTORCH_MPS_LOW_WATERMARK_RATIO")


@dataclass
class Finished(subprocess.CompletedProcess[str]):
    """A child that has ended.

    Attributes:
        value: what the function returned (JSON types), if it was a function and returned.
        counters: {"ran" | "fell_back" | "synchronised" | "launched": {name: times}}, summed over the child and its own children; a
            process that was killed or aborted has reported nothing.
    """

    args: Any
    returncode: int
    stdout: str
    stderr: str
    value: Any = None
    counters: dict[str, Counter[str]] = field(default_factory=dict)


def environment(
    *,
    env: Mapping[str, str] | None = None,
    memory_limit: int = 0,
    recommended_memory: int = 0,
    faults: Sequence[Fault | str] = (),
    report: Path | None = None,
) -> dict[str, str]:
    """The environment of a process that has the simulated device.

    Args:
        env: variables to add.
        memory_limit: bytes that the device has in all; 0 for no limit but the watermarks' (1.7 x recommended).
        recommended_memory: bytes that it recommends to use; 0 for 10.67 GiB, as on a Mac with 16 GB.
        faults: what goes wrong, as `Fault` or as text.
        report: a file to which each process appends its counters when it ends.

    Raises:
        build.Unavailable: this machine cannot build the device.
    """
    planted = [fault if isinstance(fault, Fault) else Fault.parse(fault) for fault in faults]
    settings = {
        "library": str(build.library()),
        "operators": str(build.operators()),
        "root": str(ROOT),
        "memory_limit": memory_limit,
        "recommended_memory": recommended_memory,
        "faults": [fault.arguments() for fault in planted],
        "report": str(report or ""),
    }
    inherited = {key: value for key, value in os.environ.items() if key not in OWN_VARIABLES}
    paths = [str(SITE), *filter(None, [inherited.get("PYTHONPATH", "")])]
    return {
        **inherited,
        "OMP_NUM_THREADS": "1",
        **(env or {}),
        "PYTHONPATH": os.pathsep.join(paths),
        "MPS_SIMULATOR": json.dumps(settings),
    }


def run_on_mps(
    script: str | Callable[..., Any],
    *args: Any,
    env: Mapping[str, str] | None = None,
    memory_limit: int = 0,
    recommended_memory: int = 0,
    faults: Sequence[Fault | str] = (),
    timeout: float = 120,
) -> Finished:
    """Run Python on the simulated device in a child process.

    Args:
        script: source, or a function that needs nothing from around it: it imports what it uses.
        *args: the function's arguments (JSON types).
        env: see `environment`, as `memory_limit`, `recommended_memory` and `faults`.
        memory_limit: bytes.
        recommended_memory: bytes.
        faults: what goes wrong.
        timeout: seconds, after which the child is killed and `subprocess.TimeoutExpired` raised.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "result.json")
        if callable(script):
            source = textwrap.dedent(inspect.getsource(script))
            source += f"\nimport json as _json\n_value = {script.__name__}(*_json.loads({json.dumps(args)!r}))\n"
            source += f"with open({str(result)!r}, 'w') as _file:\n    _json.dump(_value, _file)\n"
        else:
            source = textwrap.dedent(script)
        path = Path(folder, "script.py")
        path.write_text(source)
        return _run(
            [sys.executable, str(path)],
            result,
            timeout,
            env=env,
            memory_limit=memory_limit,
            recommended_memory=recommended_memory,
            faults=faults,
        )


def run_transit_on_mps(
    *arguments: str,
    env: Mapping[str, str] | None = None,
    memory_limit: int = 0,
    recommended_memory: int = 0,
    faults: Sequence[Fault | str] = (),
    timeout: float = 120,
) -> Finished:
    """Run `transit ARGUMENTS` on the simulated device in a child process; options as for `run_on_mps`."""
    with tempfile.TemporaryDirectory() as folder:
        return _run(
            [sys.executable, "-m", "transit_cli", *arguments],
            Path(folder, "result.json"),
            timeout,
            env=env,
            memory_limit=memory_limit,
            recommended_memory=recommended_memory,
            faults=faults,
        )


def _run(command: list[str], result: Path, timeout: float, **options: Any) -> Finished:
    report = result.with_name("counters.jsonl")
    surroundings = environment(report=report, **options)
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=timeout, env=surroundings)
    counters: dict[str, Counter[str]] = {name: Counter() for name in ("ran", "fell_back", "synchronised", "launched")}
    for line in report.read_text().splitlines() if report.exists() else []:
        for name, counter in counters.items():
            counter.update(json.loads(line)[name])
    value = json.loads(result.read_text()) if result.exists() else None
    return Finished(command, done.returncode, done.stdout, done.stderr, value, counters)


def main() -> None:
    """The command line: replace this process by the one that has the device."""
    parser = argparse.ArgumentParser(prog="python -m tests.mps_simulator.run", description=__doc__)
    parser.add_argument(
        "--fault", action="append", default=[], type=Fault.parse, help="KIND:OPERATOR[:VALUE][@CONDITION]"
    )
    parser.add_argument("--memory-limit", type=int, default=0, metavar="BYTES")
    parser.add_argument("--recommended-memory", type=int, default=0, metavar="BYTES")
    parser.add_argument("--python", action="store_true", help="what follows is Python's command line, not transit's")
    parser.add_argument("arguments", nargs="*")
    given = parser.parse_args()
    surroundings = environment(
        env={key: os.environ[key] for key in OWN_VARIABLES if key in os.environ},
        memory_limit=given.memory_limit,
        recommended_memory=given.recommended_memory,
        faults=given.fault,
    )
    command = [sys.executable, *([] if given.python else ["-m", "transit_cli"]), *given.arguments]
    os.execve(sys.executable, command, surroundings)


if __name__ == "__main__":
    main()
