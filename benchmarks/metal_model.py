"""What bounds a training step of two-branch on Apple's chips, by a model: python benchmarks/metal_model.py.

Nothing here is measured on a Mac. Launches and bytes at batch 64 were counted on the simulated device
(tests/training/execution/test_metal_execution.py). The ranges and their sources are in docs/metal.md.
"""

from __future__ import annotations

from dataclasses import dataclass

BATCH = 64
#: Operations of forward and backward, by torch's FlopCounterMode.
GFLOP = 3.26
#: Share of the peak of its arithmetic that such a kernel reaches, and of the bandwidth: assumed.
ARITHMETIC, BANDWIDTH = (0.35, 0.6), (0.8, 1.0)
#: Microseconds of a launch: a Metal kernel (pytorch 148219), and an operator of PyTorch (148219, 187151).
KERNEL, OPERATOR = (1.2, 1.4), (7.4, 20.0)


@dataclass(frozen=True)
class Chip:
    """A chip: bandwidth in GB/s, and TFLOP/s of float32, from the least to the most GPU cores that it is sold with."""

    name: str
    bandwidth: tuple[float, float]
    peak: tuple[float, float]


CHIPS = (
    Chip("M4", (120, 120), (3.2, 4.3)),
    Chip("M4 Pro", (273, 273), (6.5, 8.6)),
    Chip("M5", (153, 153), (3.6, 4.5)),
    Chip("M5 Pro", (307, 307), (7.1, 8.9)),
    Chip("M5 Max", (460, 614), (14.2, 17.8)),
)


@dataclass(frozen=True)
class Step:
    """What was counted of a step: kernels of our own, PyTorch's operators, megabytes."""

    name: str
    kernels: int
    operators: int
    megabytes: float


STEPS = (Step("eager", 0, 157, 403.5), Step("metal", 18, 22, 101.8))


def milliseconds(chip: Chip, step: Step, best: int) -> tuple[float, float, float]:
    """Of bytes, arithmetic and launches; `best` is 1 for the fast end of each range, 0 for the slow one."""
    moved = step.megabytes / (chip.bandwidth[best] * BANDWIDTH[best])
    computed = GFLOP / (chip.peak[best] * ARITHMETIC[best])
    launched = (step.kernels * KERNEL[1 - best] + step.operators * OPERATOR[1 - best]) / 1000
    return moved, computed, launched


if __name__ == "__main__":
    print("| chip | step | bytes, ms | arithmetic, ms | launches, ms | samples/s, in thousands |")
    print("|---|---|---|---|---|---|")
    for chip in CHIPS:
        for step in STEPS:
            fast, slow = (milliseconds(chip, step, best) for best in (1, 0))
            # At best everything overlaps, and the largest part is all; at worst a launch waits for the one before.
            rates = BATCH / (max(slow[:2]) + slow[2]), BATCH / max(fast)
            cells = [f"{a:.2f}-{b:.2f}" for a, b in zip(fast, slow, strict=True)]
            print(f"| {chip.name} | {step.name} | {' | '.join(cells)} | {rates[0]:.0f}-{rates[1]:.0f} |")
