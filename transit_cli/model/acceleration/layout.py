"""Memory layouts of convolutions on a CPU, without changing a network's parameters.

`channels_last`: each Conv1d is computed as a Conv2d of height 1 in the channels-last memory format. oneDNN then needs
no reorders between layers, and its kernels read whole cache lines: measured 1.6 to 1.8 times as fast. Tensors keep
their logical shape [B, C, L]; only the strides differ, so other modules between the convolutions work unchanged.

`blocked`: sequences of convolutions, max-poolings and ReLUs in an `nn.Sequential` are computed by oneDNN in its own
blocked layout from the first to the last. Its max-pooling stores one byte per output where PyTorch's stores an 8-byte
index, and needs a quarter of the time. Everything else runs channels-last.

Names and shapes of parameters, and therefore checkpoints, do not change.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812 - the usual name
from torch import Tensor, nn

from transit_cli.model.pooling import AverageAndMaximum, average_and_maximum

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


def blocked(network: nn.Module) -> dict[nn.Module, Callable[..., Any]]:
    """Forwards for `replaced` that compute the network's 1-D convolutions in oneDNN's layout, or else channels-last.

    They need float32 and [B, C, L]; for other inputs, or under autocast, they do the same as `channels_last`.
    """
    forwards = channels_last(network)
    if not torch.backends.mkldnn.is_available():
        return forwards
    for module in network.modules():
        if type(module) is AverageAndMaximum:
            forwards[module] = average_and_maximum
        elif type(module) is nn.Sequential and "forward" not in module.__dict__:
            pieces = _pieces(module, forwards)
            if any(isinstance(piece, tuple) for piece in pieces):
                forwards[module] = partial(_run, pieces)
    return forwards


def _pieces(layers: nn.Sequential, known: Mapping[nn.Module, object]) -> Sequence[nn.Module | tuple[nn.Module, ...]]:
    """The layers in order, with runs of layers that can stay in oneDNN's layout grouped as tuples."""
    pieces: list[nn.Module | tuple[nn.Module, ...]] = []
    for layer in layers:
        before = pieces[-1] if pieces else None
        if not _can_block(layer, known):
            pieces.append(layer)
        elif isinstance(before, tuple):
            pieces[-1] = (*before, layer)
        elif isinstance(layer, nn.Conv1d):
            pieces.append((layer,))
        else:
            pieces.append(layer)
    return pieces


def _can_block(layer: nn.Module, known: Mapping[nn.Module, object]) -> bool:
    if layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks:  # noqa: SLF001 - there is no public API
        return False
    if isinstance(layer, nn.Conv1d):
        return layer in known and not isinstance(layer.padding, str) and layer.weight.dtype == torch.float32
    if isinstance(layer, nn.MaxPool1d):
        return layer in known and _scalar(layer.dilation) == 1
    return type(layer) is nn.ReLU and not layer.inplace and "forward" not in layer.__dict__


def _run(pieces: Sequence[nn.Module | tuple[nn.Module, ...]], values: Tensor) -> Tensor:
    """A Sequential, piece by piece."""
    for piece in pieces:
        if isinstance(piece, nn.Module):
            values = piece(values)
        elif values.ndim == 3 and values.dtype == torch.float32 and not torch.is_autocast_enabled("cpu"):
            first, layers = piece[0], piece
            if isinstance(first, nn.Conv1d) and first.in_channels == 1:
                blocks, layers = _convolve_one_channel(first, values), piece[1:]
            else:
                blocks = values.unsqueeze(2).to_mkldnn()
            for layer in layers:
                if isinstance(layer, nn.Conv1d):
                    blocks = _conv2d(layer, blocks)
                elif isinstance(layer, nn.MaxPool1d):
                    blocks = _max_pool2d(layer, blocks)
                else:
                    blocks = torch.relu(blocks)
            values = blocks.to_dense().squeeze(2)
        else:
            for layer in piece:
                values = layer(values)
    return values


def _convolve_one_channel(module: nn.Conv1d, values: Tensor) -> Tensor:
    """The convolution of a single channel as a product over its taps, with the bias as a further one: [B, C, 1, L].

    oneDNN computes the gradient of one channel's weights slowly (4.9 ms for 32 views of 2001 bins), and that of a bias
    in a pass of its own. The same numbers as channels of a convolution of size 1 need 0.7 ms.

    Args:
        module: one input channel.
        values: [B, 1, L], dense.
    """
    (size,), (stride,), (padding,), (dilation,) = module.kernel_size, module.stride, _sizes(module), module.dilation
    padded = F.pad(values.squeeze(1), (padding, padding))
    taps = padded.unfold(1, (size - 1) * dilation + 1, stride)[..., ::dilation].transpose(1, 2)
    weight = module.weight.squeeze(1)
    if module.bias is not None:
        taps = torch.cat([taps, taps.new_ones(len(taps), 1, taps.shape[2])], dim=1)
        weight = torch.cat([weight, module.bias.unsqueeze(1)], dim=1)
    return F.conv2d(taps.unsqueeze(2).to_mkldnn(), weight[:, :, None, None])


def _sizes(module: nn.Conv1d) -> tuple[int, ...]:
    """The padding of a convolution that is not given by name."""
    return module.padding if isinstance(module.padding, tuple) else (0,)


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
    size, stride = (1, _scalar(module.kernel_size)), (1, _scalar(module.stride))
    padding, dilation = (0, _scalar(module.padding)), (1, _scalar(module.dilation))
    return F.max_pool2d(values, size, stride, padding, dilation, module.ceil_mode)


def _scalar(size: int | tuple[int, ...]) -> int:
    """The size of a 1-D pooling, which may be an int or a tuple."""
    return size if isinstance(size, int) else size[0]


def _channels_last(values: Tensor) -> Tensor:
    """[B, C, L] with contiguous channels: strides (L x C, 1, C)."""
    if values.shape[1] == 1:  # no copy, but set the strides: those of [B, 1, L] are ambiguous
        return values.squeeze(1).unsqueeze(2).transpose(1, 2)
    return values.transpose(1, 2).contiguous().transpose(1, 2)
