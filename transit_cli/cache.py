"""Where things are kept that can be made again: measurements of this machine, the simulated set."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """This user's caches: ~/Library/Caches/transit on macOS, $XDG_CACHE_HOME/transit (~/.cache) elsewhere."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "transit"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "transit"
