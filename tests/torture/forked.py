"""`transit` in forked processes: real processes to kill, limit and stop, without the seconds that imports take."""

from __future__ import annotations

import importlib
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable


PRELOADED = (
    *("astropy.io.fits", "h5py", "matplotlib.pyplot", "pyarrow.parquet", "scipy.signal", "sklearn.metrics"),
    *("transit_cli.app", "transit_cli.data.catalogs.importer", "transit_cli.data.prepare"),
    *("transit_cli.data.simulation.simulate", "transit_cli.export.export", "transit_cli.search.search_run"),
    *("transit_cli.training.train", "transit_cli.vetting.evaluate", "transit_cli.vetting.predict"),
)


def preload() -> None:
    """Import what the commands import, so that a fork has it."""
    import torch

    for name in PRELOADED:
        importlib.import_module(name)
    torch.set_num_threads(1)  # the threads of a pool are not forked


class Forked:
    """A function in a process group of its own, with its output in files.

    Args:
        function: returns the exit code.
        folder: the current folder of the process.
        limits: of `resource.setrlimit`: by RLIMIT_ number, the soft and hard limit; of RLIMIT_AS and RLIMIT_DATA, bytes
            beyond what the process has already.
    """

    def __init__(self, function: Callable[[], int], folder: Path, limits: dict[int, int] | None = None) -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed by the garbage collector
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python 3.12 warns about threads
            self.pid = os.fork()
        if not self.pid:
            self._child(function, folder, limits or {})
        self.returncode: int | None = None

    def _child(self, function: Callable[[], int], folder: Path, limits: dict[int, int]) -> None:
        code = 99
        try:
            os.setsid()
            os.chdir(folder)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(self._output.fileno(), 1)
            os.dup2(self._output.fileno(), 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
            warnings.resetwarnings()
            warnings.simplefilter("ignore")
            for number, value in limits.items():
                used = _memory(number)
                resource.setrlimit(number, (used + value, used + value))
            code = function()
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 1
        except BaseException:  # noqa: BLE001 - as the interpreter does
            traceback.print_exc()
            code = 1
        finally:
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code)

    def poll(self) -> int | None:
        """The exit code, or minus the signal, once the process has ended."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float = 300) -> int:
        """Wait for the end; a process that takes longer is killed, which is a problem: -99."""
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                self.kill(signal.SIGKILL)
                os.waitpid(self.pid, 0)
                self.returncode = -99
                break
            time.sleep(0.005)
        return self.returncode or 0

    def kill(self, number: int) -> None:
        """Send a signal to the process, and SIGKILL, SIGSTOP and SIGCONT to its children as well."""
        if number in {signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT}:
            os.killpg(self.pid, number)
        else:
            os.kill(self.pid, number)

    @property
    def output(self) -> str:
        """What the process has written."""
        return os.pread(self._output.fileno(), 1 << 20, 0).decode(errors="replace")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.returncode is None and self.poll() is None:
            self.kill(signal.SIGKILL)
            self.wait()


def _memory(number: int) -> int:
    """Bytes that this process counts against RLIMIT_AS or RLIMIT_DATA; 0 for other limits."""
    key = {resource.RLIMIT_AS: "VmSize:", resource.RLIMIT_DATA: "VmData:"}.get(number)
    if key is None:
        return 0
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def transit(folder: Path, *words: object, limits: dict[int, int] | None = None) -> Forked:
    """Start a command."""

    def run() -> int:
        from transit_cli import app

        sys.argv = ["transit", *map(str, words)]
        return app.main(sys.argv[1:])

    return Forked(run, folder, limits)
