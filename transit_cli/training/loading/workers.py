"""The number of processes that read ahead, for `transit train` and `transit doctor` alike."""

from __future__ import annotations

#: Most loader workers on a machine without efficiency cores.
MAX_WORKERS = 4


def loader_workers(cores: int, efficiency_cores: int | None = None) -> int:
    """Loader workers of a machine: one per efficiency core of a Mac, elsewhere all cores but one, at most 4.

    Args:
        cores: cores that may be used.
        efficiency_cores: those of an Apple chip; None or 0 if there are none.
    """
    return efficiency_cores or min(MAX_WORKERS, max(cores - 1, 0))
