"""Training speed beside what one would otherwise use: Lightning, Accelerate, a plain loop with a DataLoader.

Each contender is a process of its own (`bench.contender`), so that none profits from another's settings, and they take
turns, so that a busy spell hits all of them. All train the same network on the same views in memory, with AdamW, a
one-cycle schedule and gradients clipped at 1.0.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

from transit_cli import isolation
from transit_cli.device import environment
from transit_cli.results import ExitCode, TransitError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

#: Contenders that are packages of their own.
PACKAGES = ("lightning", "accelerate")
CONTENDERS = (*PACKAGES, "plain", "transit")
#: Steps of each contender before the rounds.
WARM_UP = 4
#: Fewest and most steps of a turn, where they are as many as the slowest does in a second.
LEAST_STEPS, MOST_STEPS = 3, 200


@dataclass(frozen=True)
class BenchmarkConfig:
    """What the contenders train.

    Attributes:
        network: by name.
        views: length of each view by name.
        batch_size: samples of a step.
        device: its kind.
    """

    network: str
    views: Mapping[str, int]
    batch_size: int
    device: str = "cpu"


@dataclass(frozen=True)
class FrameworkResult:
    """How a contender did.

    Attributes:
        name: of the contender.
        samples_per_second: median over the rounds.
        ratios: to the yardstick's time in each round, ascending; above 1 is faster.
        execution: how transit's step ran; "" for others.
    """

    name: str
    samples_per_second: float
    ratios: tuple[float, ...]
    execution: str

    @property
    def ratio(self) -> float:
        """Median ratio to the yardstick."""
        return statistics.median(self.ratios)


@dataclass(frozen=True)
class Comparison:
    """Contenders that took turns.

    Attributes:
        standings: in the order of `CONTENDERS`.
        yardstick: the contender that ratios are to: Lightning, or the plain loop where that is not installed.
        absent: contenders whose packages are not installed.
    """

    standings: tuple[FrameworkResult, ...]
    yardstick: str
    absent: tuple[str, ...]


def race(
    course: BenchmarkConfig,
    rounds: int,
    steps: int = 0,
    *,
    contenders: Sequence[str] = CONTENDERS,
    after: Callable[[int], object] = lambda _: None,
) -> Comparison:
    """Let the contenders that are installed train in turn.

    Args:
        course: what they train.
        rounds: how often each has its turn.
        steps: optimizer steps of a turn; 0 for about as many as the slowest does in a second.
        contenders: who; "transit-one-thread" is transit with one thread of torch's.
        after: is told the number of each round that is done.

    Raises:
        TransitError: a contender ended before its time.
    """
    absent = tuple(name for name in contenders if name in PACKAGES and importlib.util.find_spec(name) is None)
    running = [name for name in contenders if name not in absent]
    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in running}
    with ExitStack() as stack:
        children = {name: stack.enter_context(_Framework(name, course)) for name in running}
        slowest = max(child.steps(WARM_UP)["seconds"] for child in children.values()) / WARM_UP
        steps = steps or max(LEAST_STEPS, min(MOST_STEPS, int(1 / slowest)))
        for number in range(1, rounds + 1):
            for name, child in children.items():
                turns[name].append(child.steps(steps))
            after(number)
    yardstick = "lightning" if "lightning" in running else "plain"
    return Comparison(tuple(_standings(turns, course.batch_size * steps, yardstick)), yardstick, absent)


def _standings(turns: dict[str, list[dict[str, Any]]], samples: int, yardstick: str) -> Iterator[FrameworkResult]:
    for name, own in turns.items():
        ratios = sorted(other["seconds"] / turn["seconds"] for other, turn in zip(turns[yardstick], own, strict=True))
        speed = statistics.median(samples / turn["seconds"] for turn in own)
        yield FrameworkResult(name, speed, tuple(ratios), own[-1]["execution"])


class _Framework:
    """The process of a framework."""

    def __init__(self, name: str, course: BenchmarkConfig) -> None:
        self._name = name
        env = dict(os.environ)
        if not name.startswith("transit"):  # as their users run them
            env = {key: value for key, value in env.items() if environment.DEFAULTS.get(key) != value}
        if name == "transit-one-thread":
            env["OMP_NUM_THREADS"] = "1"
        self._job = {"framework": name, "config": asdict(course)}
        self._child = isolation.Child("transit_cli.bench.framework_process", env=env)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.close()

    def steps(self, count: int) -> dict[str, Any]:
        """Train; {"seconds": ..., "execution": ...}."""
        turns: list[dict[str, Any]] = []
        end = self._child.run(self._job | {"steps": count}, turns.append)
        if end.kind == "done":
            return turns[0]
        raise TransitError(
            f"the training with {self._name} failed: {end.message}",
            wanted="a package that trains",
            fix=f"pip install --upgrade {self._name}" if self._name in PACKAGES else "transit doctor",
            exit_code=ExitCode.MACHINE,
            code="peer-failed",
        )
