"""Logits by Metal kernels: the forward half of the execution `metal`, for scoring on MPS.

A network gets them once it has scored more than a batch, if they compile, give eager's logits for the batch in use, and
need less time for it. A kernel that fails later ends in eager with a warning, and its batch is computed again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

import torch

from transit_cli import console
from transit_cli.model.acceleration import layout
from transit_cli.model.acceleration.metal import layers
from transit_cli.model.acceleration.metal.library import Library

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor, nn

    from transit_cli.device.base import CompilingDevice, Device

    Forwards = Mapping[nn.Module, Callable[..., Any]]

#: Samples that a network has scored before choosing is worth its time, which is that of some eight batches.
WORTH_CHOOSING = 512
#: Largest difference of the logits from eager's, in norm: float32 on both sides, summed in other orders.
TOLERANCE = 1e-3
#: Rounds in which both are timed in turn, after one that compiles; kernels are taken below this share of eager's time.
ROUNDS, WORTH_IT = 3, 0.95


@dataclass
class _Known:
    """What is known of a network: the samples that it has scored, and by the shapes of a batch whether kernels pay."""

    samples: int = 0
    taken: dict[object, bool] = field(default_factory=dict)


_known: WeakKeyDictionary[nn.Module, _Known] = WeakKeyDictionary()
#: By network and shapes: whether the kernels were faster. Members of an ensemble are timed once.
_faster: dict[object, bool] = {}
_libraries: dict[str, Library] = {}
_told: set[str] = set()


class MetalInference:
    """Computes batches with Metal kernels where they pay, otherwise in eager.

    Args:
        networks: on the device, in evaluation mode.
        device: MPS.
        execution: "auto"; or one asked for: kernels are not timed for "metal", and not used for any other.
    """

    def __init__(self, networks: Sequence[nn.Module], device: Device, execution: str = "auto") -> None:
        self._networks, self._device, self._execution = networks, device, execution

    def __call__(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Logits [M, B] float32 of a batch on the device."""
        if self._execution not in {"auto", "metal"}:
            return self._logits(inputs, {})
        kernels: dict[nn.Module, Callable[..., Any]] = {}
        for network in self._networks:
            kernels |= self._forwards(network, inputs)
        if not kernels:
            return self._logits(inputs, {})
        try:
            return self._logits(inputs, kernels)
        except (RuntimeError, ValueError) as error:
            if self._device.is_out_of_memory(error):
                raise
            for network in self._networks:
                _known[network].taken[_shapes(inputs)] = False
            console.warn(f"Metal kernels failed ({_first_line(error)}): going on without them")
            return self._logits(inputs, {})

    def _logits(self, inputs: Mapping[str, Tensor], kernels: Forwards) -> Tensor:
        with layout.replaced(kernels):
            return torch.stack([network(inputs).float() for network in self._networks])

    def _forwards(self, network: nn.Module, inputs: Mapping[str, Tensor]) -> Forwards:
        """A network's kernels for batches of these shapes; empty where eager is better, or too little was scored."""
        known, shapes = _known.setdefault(network, _Known()), _shapes(inputs)
        if shapes not in known.taken:
            known.samples += len(next(iter(inputs.values())))
            if known.samples <= WORTH_CHOOSING and self._execution == "auto":
                return {}
        elif not known.taken[shapes]:
            return {}
        compiler = cast("CompilingDevice", self._device).compile_shader
        forwards = layers.forwards(network, _libraries.setdefault(self._device.kind, Library(compiler)), None)
        if shapes not in known.taken:
            known.taken[shapes] = bool(forwards) and self._pays(network, inputs, forwards)
        return forwards if known.taken[shapes] else {}

    def _pays(self, network: nn.Module, inputs: Mapping[str, Tensor], forwards: Forwards) -> bool:
        """Whether the kernels compile, give eager's logits, and need less time; says what was found."""
        runs: dict[str, Forwards] = {"eager": {}, "metal": forwards}
        alone = MetalInference([network], self._device)
        try:
            expected, found = (alone._logits(inputs, kernels).cpu() for kernels in runs.values())
            if not _agree(found, expected):
                return _refused(f"logits differ from eager's by more than {TOLERANCE:g}")
            return self._execution != "auto" or alone._faster(inputs, runs)
        except (RuntimeError, ValueError) as error:
            if self._device.is_out_of_memory(error):
                raise
            return _refused(_first_line(error))

    def _faster(self, inputs: Mapping[str, Tensor], runs: Mapping[str, Forwards]) -> bool:
        """Whether kernels are faster than eager for the one network, by a timing now or of another member."""
        (network,) = self._networks
        key = type(network), sum(parameter.numel() for parameter in network.parameters()), _shapes(inputs)
        if key not in _faster:
            seconds = {name: self._seconds(inputs, kernels) for name, kernels in runs.items()}
            for _ in range(ROUNDS - 1):
                for name, kernels in runs.items():
                    seconds[name] = min(seconds[name], self._seconds(inputs, kernels))
            _faster[key] = seconds["metal"] < WORTH_IT * seconds["eager"]
            shown = ", ".join(f"{name} {value * 1000:.1f} ms" for name, value in seconds.items())
            fastest, samples = "metal" if _faster[key] else "eager", len(next(iter(inputs.values())))
            console.note(f"fastest execution of scoring: {fastest} (a batch of {samples}: {shown})")
        return _faster[key]

    def _seconds(self, inputs: Mapping[str, Tensor], kernels: Forwards) -> float:
        self._device.synchronize()
        begin = time.perf_counter()
        self._logits(inputs, kernels)
        self._device.synchronize()
        return time.perf_counter() - begin


def name_of(network: nn.Module) -> str:
    """How a network has been scored: "metal" with kernels, otherwise ""."""
    known = _known.get(network)
    return "metal" if known and any(known.taken.values()) else ""


def _shapes(inputs: Mapping[str, Tensor]) -> object:
    return tuple((name, *values.shape) for name, values in inputs.items())


def _agree(found: Tensor, expected: Tensor) -> bool:
    """Whether logits are the same but for rounding, with NaN in the same places."""
    same = torch.equal(found.isnan(), expected.isnan())
    return same and bool((found - expected).nan_to_num().norm() <= TOLERANCE * expected.nan_to_num().norm())


def _refused(reason: str) -> bool:
    if reason not in _told:
        _told.add(reason)
        console.note(f"Metal kernels are not used for scoring: {reason}")
    return False


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]
