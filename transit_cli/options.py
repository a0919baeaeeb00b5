"""Options that several commands share: each declared once, with the panel of `--help` that lists it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from transit_cli.config import Flag, Settings

#: The views that `transit data prepare` makes.
VIEWS = ("global", "local", "secondary", "odd", "even")
#: The most bins of a view: no light curve has more cadences; and networks of an ensemble.
MAX_BINS, MAX_MEMBERS = 1_000_000, 1000
#: The mark of every option `--out`.
OUT = Flag("-o")

#: What a signal cannot be folded without, so that every view set has it (their effect: docs/results/accuracy.md).
DEFAULT_SCALARS = ("period_days", "duration_hours")


@dataclass(frozen=True, kw_only=True)
class DeviceSettings(Settings):
    """The device of a command that computes."""

    panel: ClassVar[str] = "Device"

    device: Literal["auto", "mps", "cuda", "cpu"] = "auto"
    "Where to compute: mps, cuda, cpu, or auto (the first of these present)."


@dataclass(frozen=True, kw_only=True)
class PrecisionSettings(Settings):
    """The arithmetic of a command that trains."""

    panel: ClassVar[str] = "Device"

    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    "Arithmetic of the forward pass: fp32, fp16, bf16, or auto (the fastest)."


@dataclass(frozen=True, kw_only=True)
class ExecutionSettings(PrecisionSettings):
    """The arithmetic and execution of training steps."""

    panel: ClassVar[str] = "Device"

    execution: Literal[
        "auto",
        "eager",
        "channels-last",
        "onednn",
        "single-thread",
        "replicas",
        "cuda-graph",
        "triton",
        "metal",
        "metal-matrices",
    ] = "auto"
    "How a step is executed, with equal results; auto takes cuda-graph on CUDA, and the fastest on MPS and a CPU."


@dataclass(frozen=True, kw_only=True)
class NetworkSettings(Settings):
    """The network of a command that builds one."""

    panel: ClassVar[str] = "Network"

    network: Annotated[str, Flag(metavar="NAME")] = "two-branch"
    "Network: two-branch, astronet, an installed one, or my_net.py:build for your own."


@dataclass(frozen=True, kw_only=True)
class InputSettings(NetworkSettings):
    """The network and its inputs."""

    panel: ClassVar[str] = "Network"

    views: Annotated[tuple[str, ...], Flag(metavar="NAME,...")] = ("global", "local")
    "Views that the network gets."

    scalars: Annotated[tuple[str, ...], Flag(metavar="NAME,...")] = DEFAULT_SCALARS
    "Columns of tces.csv that the network gets too."


@dataclass(frozen=True, kw_only=True)
class BinsSettings(Settings):
    """The lengths of views, where no view set gives them."""

    panel: ClassVar[str] = "Data"

    bins: Annotated[str, Flag(metavar="G/L")] = "2001/201"
    "Bins of the global and of the local view, where no VIEWSET gives them."

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            parse_bins(self.bins)
        except ValueError:
            self.refuse("bins", f"two lengths of 4 to {MAX_BINS:,} bins, such as 2001/201")


@dataclass(frozen=True, kw_only=True)
class BinnedInputSettings(InputSettings, BinsSettings):
    """The network and its inputs, of a command that runs without a view set too."""

    @property
    def lengths(self) -> dict[str, int]:
        """The length of each of `views`, from `bins`.

        Raises:
            TransitError: there is a view that only a view set can have.
        """
        if not set(self.views) <= set(VIEWS):
            self.refuse("views", f"{', '.join(VIEWS)}; or a VIEWSET that has it")
        return parse_bins(self.bins, self.views)


def parse_bins(bins: str, views: tuple[str, ...] = ("global", "local")) -> dict[str, int]:
    """The length of each view, from bins written as "2001/201": views other than the global one have the second.

    Raises:
        ValueError: the bins are written otherwise, or fewer than 4, or more than `MAX_BINS`.
    """
    of_global, of_others = map(int, bins.split("/"))
    if min(of_global, of_others) < 4:
        raise ValueError("fewer than 4 bins")
    if max(of_global, of_others) > MAX_BINS:
        raise ValueError(f"more than {MAX_BINS:,} bins")
    return {name: of_global if name == "global" else of_others for name in views}
