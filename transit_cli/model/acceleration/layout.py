"""Memory layouts of convolutions on a CPU, without changing a network's parameters.

`channels_last`: each Conv1d is computed as a Conv2d of height 1 in the channels-last memory format. oneDNN then needs
no reorders between layers, and its kernels read whole cache lines: measured 1.6 to 1.8 times as fast. Tensors keep
their logical shape [B, C, L]; only the strides differ, so other modules between the convolutions work unchanged.

`blocked`: sequences of convolutions, max-poolings and ReLUs in an `nn.Sequential`, and average and maximum over all
bins at their end, are computed by oneDNN in its own blocked layout from the first to the last
(`model.acceleration.blocked`). Everything else runs channels-last.

Names and shapes of parameters, and therefore checkpoints, do not change.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812 - the usual name
from torch import Tensor, nn

from transit_cli.model.acceleration.blocked import Convolution, Threads, run, scalar, sizes, stages
from transit_cli.model.pooling import AverageAndMaximum

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence


@contextmanager
def replaced(forwards: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Replace the `forward` of modules while the block runs."""
    for module, forward in forwards.items():
        module.__dict__["forward"] = forward  # bypasses nn.Module.__setattr__, which is slow
    try:
        yield
    finally:
        for module in forwards:
            del module.__dict__["forward"]


def channels_last(network: nn.Module) -> dict[nn.Module, Callable[..., Any]]:
    """Forwards for `replaced` that compute the network's 1-D convolutions and max-poolings channels-last.

    Other modules (padding modes other than zeros, subclasses, a `forward` replaced already) are left unchanged.
    """
    forwards: dict[nn.Module, Callable[..., Any]] = {}
    for module in network.modules():
        if "forward" in module.__dict__:
            continue
        if type(module) is nn.Conv1d and module.padding_mode == "zeros":
            forwards[module] = partial(_convolve, module)
        elif type(module) is nn.MaxPool1d and not module.return_indices:
            forwards[module] = partial(_pool, module)
    return forwards


def blocked(network: nn.Module, threads: Threads | None = None) -> dict[nn.Module, Callable[..., Any]]:
    """Forwards for `replaced` that compute the network's 1-D convolutions in oneDNN's layout, or else channels-last.

    They need float32 and [B, C, L]; for other inputs, or under autocast, they do the same as `channels_last`.
    """
    forwards = channels_last(network)
    if not torch.backends.mkldnn.is_available():
        return forwards
    for module in network.modules():
        if type(module) is nn.Sequential and "forward" not in module.__dict__:
            pieces = _pieces(module, forwards, threads)
            if any(isinstance(piece, _Blocked) for piece in pieces):
                forwards[module] = partial(_run, pieces)
    return forwards


def _pieces(
    layers: nn.Sequential, known: Mapping[nn.Module, object], threads: Threads | None
) -> Sequence[Callable[[Tensor], Tensor]]:
    """The layers in order, with those that can stay in oneDNN's layout together."""
    pieces: list[Callable[[Tensor], Tensor]] = []
    together: list[nn.Module] = []
    for layer in layers:
        fits = _can_block(layer, known) and (together or isinstance(layer, nn.Conv1d))
        if fits:
            together.append(layer)
        if together and (not fits or isinstance(layer, AverageAndMaximum)):
            pieces.append(_Blocked(together, threads))
            together = []
        if not fits:
            pieces.append(layer)
    return [*pieces, _Blocked(together, threads)] if together else pieces


def _can_block(layer: nn.Module, known: Mapping[nn.Module, object]) -> bool:
    if layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks:  # noqa: SLF001 - there is no public API
        return False
    if isinstance(layer, nn.Conv1d):
        return layer in known and not isinstance(layer.padding, str) and layer.weight.dtype == torch.float32
    if isinstance(layer, nn.MaxPool1d):
        return layer in known and scalar(layer.dilation) == 1
    if type(layer) is AverageAndMaximum:
        return "forward" not in layer.__dict__
    return type(layer) is nn.ReLU and not layer.inplace and "forward" not in layer.__dict__


def _run(pieces: Sequence[Callable[[Tensor], Tensor]], values: Tensor) -> Tensor:
    """A Sequential, piece by piece."""
    for piece in pieces:
        values = piece(values)
    return values


class _Blocked:
    """Layers of a Sequential, the first a convolution, in oneDNN's layout where their input allows it."""

    def __init__(self, layers: Sequence[nn.Module], threads: Threads | None) -> None:
        self._layers, self._threads = layers, threads
        self._stages, self._summarize = stages(layers)

    def __call__(self, values: Tensor) -> Tensor:
        """What the layers give."""
        if values.ndim != 3 or values.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
            return _run(self._layers, values)
        known, parameters = self._stages, [parameter for stage in self._stages for parameter in stage.parameters()]
        prepare = None
        if (first := known[0].layer) and first.in_channels == 1 and not values.requires_grad:
            prepare, parameters[:2] = partial(_taps, first), [_weights_of_taps(first), None]
            known = [replace(known[0], convolution=Convolution()), *known[1:]]
        return run(known, values, parameters, summarize=self._summarize, prepare=prepare, threads=self._threads)


def _taps(module: nn.Conv1d, values: Tensor) -> Tensor:
    """The values under each tap of a convolution of a single channel, and ones for its bias.

    oneDNN computes the gradient of one channel's weights slowly (4.9 ms for 32 views of 2001 bins), and that of a bias
    in a pass of its own. The same numbers as channels of a convolution of size 1 need 0.7 ms.

    Shape: [B, 1, L] -> [B, K, L'], or [B, K + 1, L'] with a bias.
    """
    (size,), (stride,), (padding,), (dilation,) = module.kernel_size, module.stride, sizes(module), module.dilation
    padded = F.pad(values.squeeze(1), (padding, padding))
    taps = padded.unfold(1, (size - 1) * dilation + 1, stride)[..., ::dilation].transpose(1, 2)
    return taps if module.bias is None else torch.cat([taps, taps.new_ones(len(taps), 1, taps.shape[2])], dim=1)


def _weights_of_taps(module: nn.Conv1d) -> Tensor:
    """The weights by which `_taps` are multiplied: [C, K, 1], or [C, K + 1, 1]."""
    weight = module.weight.transpose(1, 2)
    return weight if module.bias is None else torch.cat([weight, module.bias[:, None, None]], dim=1)


def _convolve(module: nn.Conv1d, values: Tensor) -> Tensor:
    """Shape: [B, C, L] -> [B, C', L'], channels last."""
    if values.ndim != 3:
        return nn.Conv1d.forward(module, values)
    return _conv2d(module, _channels_last(values).unsqueeze(2)).squeeze(2)


def _conv2d(module: nn.Conv1d, values: Tensor) -> Tensor:
    """Shape: [B, C, 1, L] -> [B, C', 1, L']."""
    padding = module.padding if isinstance(module.padding, str) else (0, *module.padding)
    stride, dilation = (1, *module.stride), (1, *module.dilation)
    return F.conv2d(values, module.weight.unsqueeze(2), module.bias, stride, padding, dilation, module.groups)


def _pool(module: nn.MaxPool1d, values: Tensor) -> Tensor:
    """Shape: [B, C, L] -> [B, C, L'], channels last."""
    if values.ndim != 3:
        return nn.MaxPool1d.forward(module, values)
    return _max_pool2d(module, _channels_last(values).unsqueeze(2)).squeeze(2)


def _max_pool2d(module: nn.MaxPool1d, values: Tensor) -> Tensor:
    """Shape: [B, C, 1, L] -> [B, C, 1, L']."""
    size, stride = (1, scalar(module.kernel_size)), (1, scalar(module.stride))
    padding, dilation = (0, scalar(module.padding)), (1, scalar(module.dilation))
    return F.max_pool2d(values, size, stride, padding, dilation, module.ceil_mode)


def _channels_last(values: Tensor) -> Tensor:
    """[B, C, L] with contiguous channels: strides (L x C, 1, C)."""
    if values.shape[1] == 1:  # no copy, but set the strides: those of [B, 1, L] are ambiguous
        return values.squeeze(1).unsqueeze(2).transpose(1, 2)
    return values.transpose(1, 2).contiguous().transpose(1, 2)
