"""One measured figure, as every benchmark that `make bench` runs writes it with `--json FILE`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """What a benchmark found, beside what it is compared with, what is wanted and what the machine could do.

    Attributes:
        name: what was measured.
        value: the median, in `unit`.
        unit: "samples/s", "s", "ms", ...
        beside: what `ratio` refers to.
        ratio: how many times faster than that, or with `at_most` how many times its time or what share of it.
        range: least and largest ratio of the rounds.
        wanted: the ratio that is wanted, or the value if there is no ratio.
        at_most: `wanted` is the most rather than the least.
        shares: of the machine's measured limits, by name ("bytes", "arithmetic").
    """

    name: str
    value: float
    unit: str
    beside: str = ""
    ratio: float | None = None
    range: tuple[float, float] | None = None
    wanted: float | None = None
    at_most: bool = False
    shares: Mapping[str, float] = field(default_factory=dict)

    @property
    def reached(self) -> bool:
        """Whether it is as good as wanted, or nothing was."""
        found = self.value if self.ratio is None else self.ratio
        return self.wanted is None or (found <= self.wanted if self.at_most else found >= self.wanted)


def save(file: Path | None, figures: Sequence[Figure]) -> None:
    """Write the figures as JSON, if a file was asked for."""
    if file:
        file.write_text(json.dumps([asdict(figure) for figure in figures], indent=1))


def load(file: Path) -> list[Figure]:
    """What `save` wrote."""
    return [Figure(**record) for record in json.loads(file.read_text())]


def shares(network: str, kind: str, batch: int, samples_per_second: float, device: str) -> dict[str, float]:
    """Shares of this machine's measured limits at a speed: of the bytes it can copy, and of a matrix product's rate.

    Bytes are those of all operators' tensors, each moved once, as in `transit bench`.
    """
    from transit_cli.bench import throughput
    from transit_cli.bench.settings import BenchSettings
    from transit_cli.device.select import select
    from transit_cli.profiling.roofline import measure_peaks

    place = select(device)
    settings = BenchSettings(bins="2001/201", precision="fp32", device=device)
    found = throughput.measure(settings, network, kind, batch, 0.5, device=place, meter=None)
    peaks = measure_peaks(place)
    steps = samples_per_second / batch
    return {"bytes": found.bytes * steps / peaks.copy, "arithmetic": found.flops * steps / peaks.matmul}
