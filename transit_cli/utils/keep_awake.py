"""Keep a Mac from falling asleep while it trains."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def awake() -> Iterator[None]:
    """On macOS, hold off idle sleep until the block or this process ends (`caffeinate -i -w PID`)."""
    command = ["/usr/bin/caffeinate", "-i", "-w", str(os.getpid())]
    if sys.platform != "darwin" or not Path(command[0]).exists():
        yield
        return
    with subprocess.Popen(command) as helper:
        try:
            yield
        finally:
            helper.terminate()
