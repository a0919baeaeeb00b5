"""Training speed compared with other frameworks: Lightning, Accelerate, a plain loop with a DataLoader.

Each framework runs in a process of its own (`bench.framework_process`), so that none profits from another's settings,
and they take turns, so that other programs slow all of them. All train the same network on the same views in memory,
with AdamW, a one-cycle schedule and gradients clipped at 1.0.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

from transit_cli.device import environment
from transit_cli.results import ExitCode, TransitError
from transit_cli.utils import isolation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

#: Frameworks that are packages of their own.
PACKAGES = ("lightning", "accelerate")
FRAMEWORKS = (*PACKAGES, "plain", "transit")
#: Steps of each framework before the rounds.
WARM_UP = 4
#: Fewest and most steps of a turn, if they are chosen by the speed of the slowest.
MIN_STEPS, MAX_STEPS = 3, 200


@dataclass(frozen=True)
class BenchmarkConfig:
    """What the frameworks train.

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
    """The speed of one framework.

    Attributes:
        name: of the framework.
        samples_per_second: median over the rounds.
        ratios: to the baseline's time in each round, ascending; above 1 is faster.
        execution: how transit executed the step; "" for others.
    """

    name: str
    samples_per_second: float
    ratios: tuple[float, ...]
    execution: str

    @property
    def ratio(self) -> float:
        """Median ratio to the baseline."""
        return statistics.median(self.ratios)


@dataclass(frozen=True)
class Comparison:
    """Frameworks that took turns.

    Attributes:
        results: in the order of `FRAMEWORKS`.
        baseline: the framework that ratios refer to: Lightning, or the plain loop without it.
        absent: frameworks that are not installed.
    """

    results: tuple[FrameworkResult, ...]
    baseline: str
    absent: tuple[str, ...]


def compare_frameworks(
    config: BenchmarkConfig,
    rounds: int,
    steps: int = 0,
    *,
    names: Sequence[str] = FRAMEWORKS,
    after: Callable[[int], object] = lambda _: None,
) -> Comparison:
    """Train with each of the installed frameworks in turn.

    Args:
        config: what they train.
        rounds: how often each has its turn.
        steps: optimizer steps of a turn; 0 for about as many as the slowest takes in a second.
        names: the frameworks; "transit-one-thread" is transit with one thread of torch.
        after: called with the number of each round that is done.

    Raises:
        TransitError: the training with one of them failed.
    """
    absent = tuple(name for name in names if name in PACKAGES and importlib.util.find_spec(name) is None)
    running = [name for name in names if name not in absent]
    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in running}
    with ExitStack() as stack:
        children = {name: stack.enter_context(_Framework(name, config)) for name in running}
        slowest = max(child.steps(WARM_UP)["seconds"] for child in children.values()) / WARM_UP
        steps = steps or max(MIN_STEPS, min(MAX_STEPS, int(1 / slowest)))
        for number in range(1, rounds + 1):
            for name, child in children.items():
                turns[name].append(child.steps(steps))
            after(number)
    baseline = "lightning" if "lightning" in running else "plain"
    return Comparison(tuple(_results(turns, config.batch_size * steps, baseline)), baseline, absent)


def _results(turns: dict[str, list[dict[str, Any]]], samples: int, baseline: str) -> Iterator[FrameworkResult]:
    for name, own in turns.items():
        ratios = sorted(other["seconds"] / turn["seconds"] for other, turn in zip(turns[baseline], own, strict=True))
        speed = statistics.median(samples / turn["seconds"] for turn in own)
        yield FrameworkResult(name, speed, tuple(ratios), own[-1]["execution"])


class _Framework:
    """The process of a framework."""

    def __init__(self, name: str, config: BenchmarkConfig) -> None:
        self._name = name
        env = dict(os.environ)
        if not name.startswith("transit"):  # as their users run them
            env = {key: value for key, value in env.items() if environment.DEFAULTS.get(key) != value}
        if name == "transit-one-thread":
            env["OMP_NUM_THREADS"] = "1"
        self._job = {"framework": name, "config": asdict(config)}
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
