"""The limits that a container (Linux control groups, version 2 or 1) puts on this process.

A group's limits apply to the groups inside it, so every folder from the process's own up to the root is read.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")

#: Version 1 encodes "no limit" as a number near 2^63.
_NO_LIMIT = 1 << 60


class ContainerMemory(NamedTuple):
    """The tightest memory limit, and what is left below it, in bytes."""

    limit: int
    available: int


@dataclass(frozen=True)
class Container:
    """The mounted hierarchy, and the file that lists the groups of this process."""

    root: Path = ROOT
    membership: Path = MEMBERSHIP

    def memory(self) -> ContainerMemory | None:
        """The limit, and what is left below it; None if there is no limit.

        The file cache that the kernel would give up first (inactive_file) counts as left.
        """
        limits = []
        for folder in self.folders("memory"):
            limit, used, key = _number(folder / "memory.max"), _number(folder / "memory.current"), "inactive_file"
            if limit is None:
                limit = _number(folder / "memory.limit_in_bytes")
                used, key = _number(folder / "memory.usage_in_bytes"), "total_inactive_file"
            if limit is not None and 0 < limit < _NO_LIMIT:
                cache = (line.split() for line in read_text(folder / "memory.stat").splitlines())
                idle = next((int(words[1]) for words in cache if words[0] == key), 0)
                limits.append(ContainerMemory(limit, max(0, limit - (used or 0) + idle)))
        if not limits:
            return None
        return ContainerMemory(min(one.limit for one in limits), min(one.available for one in limits))

    def cores(self) -> float | None:
        """The share of processor time, in cores; None if there is no limit."""
        shares = []
        for folder in self.folders("cpu"):
            words = read_text(folder / "cpu.max").split()  # version 2: "200000 100000", or "max 100000"
            if not words:
                words = [read_text(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period")]
            if len(words) == 2 and words[0].strip().isdigit() and words[1].strip().isdigit():
                shares.append(int(words[0]) / int(words[1]))
        return min(shares, default=None)

    @functools.lru_cache  # noqa: B019 - there is one Container per process, read ten times per second
    def folders(self, controller: str) -> tuple[Path, ...]:
        """The folders of this process's groups for a controller ("memory", "cpu"), the innermost first."""
        found: list[Path] = []
        for line in read_text(self.membership).splitlines():
            _, names, own = line.split(":", 2)
            if names and controller not in names.split(","):
                continue
            base = self.root / controller if names else self.root
            inside = base / own.lstrip("/")
            # inside a container the path may be the host's, of which only the part below its own group is mounted
            chain = [inside, *inside.parents] if inside.is_dir() else [base]
            found += [folder for folder in chain if folder.is_relative_to(base) and folder.is_dir()]
        return tuple(found)


def read_text(path: Path) -> str:
    """A file's text; "" where it is absent or may not be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    text = read_text(path).strip()
    return int(text) if text.isdigit() else None
