"""What bounds a training step on Apple's chips, by a model: python benchmarks/metal_model.py.

Nothing here is measured on a Mac. Launches and bytes at batch 64 were counted on the simulated device
(tests/training/execution/test_metal_execution.py). The ranges and their sources are in docs/metal.md.
"""

from __future__ import annotations

from dataclasses import dataclass

BATCH = 64
#: Share of the bandwidth that is reached: assumed.
BANDWIDTH = (0.8, 1.0)
#: Share of the peak of its arithmetic that is reached by products in registers and in MPSGraph: assumed.
REGISTERS = (0.35, 0.6)
#: The same by 8 x 8 matrices: some found them slower than registers (Metal.jl 832), some reached 0.8
#: (metal-flash-attention 29).
MATRICES = (0.3, 0.8)
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
    """What was counted of a step.

    Attributes:
        name: its execution.
        kernels: launches of our own kernels.
        operators: launches of PyTorch's, feeding and augmentation included.
        megabytes: read and written.
        gflop: operations of forward and backward, by torch's FlopCounterMode.
        arithmetic: share of the peak.
    """

    name: str
    kernels: int
    operators: int
    megabytes: float
    gflop: float
    arithmetic: tuple[float, float]


STEPS = {
    "two-branch": (
        Step("eager", 0, 157, 403.5, 3.26, REGISTERS),
        Step("metal", 18, 22, 101.8, 3.26, REGISTERS),
        Step("metal-matrices", 18, 22, 101.8, 3.26, MATRICES),
    ),
    "astronet": (
        Step("eager", 0, 201, 1298.6, 48.4, REGISTERS),
        Step("metal", 54, 29, 1099.2, 48.4, REGISTERS),
        Step("metal-matrices", 54, 29, 1099.2, 48.4, MATRICES),
    ),
}


def milliseconds(chip: Chip, step: Step, best: int) -> tuple[float, float, float]:
    """Of bytes, arithmetic and launches; `best` is 1 for the fast end of each range, 0 for the slow one."""
    moved = step.megabytes / (chip.bandwidth[best] * BANDWIDTH[best])
    computed = step.gflop / (chip.peak[best] * step.arithmetic[best])
    launched = (step.kernels * KERNEL[1 - best] + step.operators * OPERATOR[1 - best]) / 1000
    return moved, computed, launched


def samples_per_second(chip: Chip, step: Step) -> tuple[float, float]:
    """In thousands, the least and the most.

    At best everything overlaps, and the largest part is all; at worst a launch waits for the one before.
    """
    fast, slow = (milliseconds(chip, step, best) for best in (1, 0))
    return BATCH / (max(slow[:2]) + slow[2]), BATCH / max(fast)


if __name__ == "__main__":
    for network, steps in STEPS.items():
        print(f"\n{network}\n")
        print("| chip | step | bytes, ms | arithmetic, ms | launches, ms | samples/s, in thousands |")
        print("|---|---|---|---|---|---|")
        for chip in CHIPS:
            for step in steps:
                fast, slow = (milliseconds(chip, step, best) for best in (1, 0))
                rates = samples_per_second(chip, step)
                digits = 0 if rates[0] > 10 else 1
                cells = [f"{a:.2f}-{b:.2f}" for a, b in zip(fast, slow, strict=True)]
                shown = "-".join(f"{rate:.{digits}f}" for rate in rates)
                print(f"| {chip.name} | {step.name} | {' | '.join(cells)} | {shown} |")
