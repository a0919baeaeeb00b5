"""Apple's specifications of its chips, for comparison with what a machine reports.

Sources: Apple's technical specifications of each Mac (support.apple.com/specs, among them 121555 for the Mac mini with
M4 and M4 Pro), and Apple's announcement of M5 Pro and M5 Max of 2026-03-03, both read in copies; core counts of these
two as pytorch/cpuinfo 424 saw them. A chip is sold with several core counts, so these are ranges. Bandwidth is
1e9 bytes/s; where two variants of one name differ (M3 Max, M4 Max, M5 Max), all GPU cores come with the higher one. A
Mac cannot be asked for its own. A chip that is not here is described by what its system says of cores and memory.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Chip:
    """One chip as it is sold.

    Attributes:
        performance_cores: fewest and most of the faster kind, which M5 Pro and M5 Max call super cores.
        efficiency_cores: fewest and most of the slower kind, which M5 Pro and M5 Max call performance cores.
        gpu_cores: fewest and most.
        bandwidth_gb_s: memory bandwidth, 1e9 bytes/s.
        full_bandwidth_gb_s: that of the variant with all GPU cores, if it differs.
    """

    performance_cores: tuple[int, int]
    efficiency_cores: tuple[int, int]
    gpu_cores: tuple[int, int]
    bandwidth_gb_s: float
    full_bandwidth_gb_s: float | None = None


CHIPS = {
    "Apple M1": Chip((4, 4), (4, 4), (7, 8), 68.25),
    "Apple M1 Pro": Chip((6, 8), (2, 2), (14, 16), 200),
    "Apple M1 Max": Chip((8, 8), (2, 2), (24, 32), 400),
    "Apple M1 Ultra": Chip((16, 16), (4, 4), (48, 64), 800),
    "Apple M2": Chip((4, 4), (4, 4), (8, 10), 100),
    "Apple M2 Pro": Chip((6, 8), (4, 4), (16, 19), 200),
    "Apple M2 Max": Chip((8, 8), (4, 4), (30, 38), 400),
    "Apple M2 Ultra": Chip((16, 16), (8, 8), (60, 76), 800),
    "Apple M3": Chip((4, 4), (4, 4), (8, 10), 100),
    "Apple M3 Pro": Chip((5, 6), (6, 6), (14, 18), 150),
    "Apple M3 Max": Chip((10, 12), (4, 4), (30, 40), 300, 400),
    "Apple M3 Ultra": Chip((20, 24), (8, 8), (60, 80), 819),
    "Apple M4": Chip((3, 4), (4, 6), (8, 10), 120),
    "Apple M4 Pro": Chip((8, 10), (4, 4), (16, 20), 273),
    "Apple M4 Max": Chip((10, 12), (4, 4), (32, 40), 410, 546),
    "Apple M5": Chip((3, 4), (6, 6), (8, 10), 153),
    "Apple M5 Pro": Chip((5, 6), (10, 12), (16, 20), 307),
    "Apple M5 Max": Chip((6, 6), (12, 12), (32, 40), 460, 614),
}


def bandwidth_gb_s(name: str, gpu_cores: int | None = None) -> float | None:
    """Memory bandwidth of a chip, 1e9 bytes/s.

    Args:
        name: as the system has it ("Apple M4 Pro").
        gpu_cores: its GPU cores; without them the lower of two variants is returned.

    Returns:
        None for a chip that is not in the table.
    """
    chip = CHIPS.get(name)
    if chip is None:
        return None
    return chip.full_bandwidth_gb_s or chip.bandwidth_gb_s if gpu_cores == chip.gpu_cores[1] else chip.bandwidth_gb_s
