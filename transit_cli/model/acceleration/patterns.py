"""Which convolutions and poolings are plain enough for kernels of our own, whatever language those are written in."""

from __future__ import annotations

from torch import nn


def plain_convolution(layer: nn.Conv1d) -> bool:
    """Whether a convolution has a bias, zeros around it, and neither stride, dilation nor groups."""
    padded = layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    simple = layer.stride == (1,) and layer.dilation == (1,) and layer.groups == 1
    return padded and simple and layer.bias is not None


def plain_pooling(layer: nn.Module) -> tuple[int, int] | None:
    """Size and stride of a max-pooling that does nothing else; None for any other."""
    assert isinstance(layer, nn.MaxPool1d)
    if scalar(layer.padding) or scalar(layer.dilation) != 1 or layer.ceil_mode or layer.return_indices:
        return None
    return scalar(layer.kernel_size), scalar(layer.stride)


def scalar(size: int | tuple[int, ...]) -> int:
    """The size of a 1-D pooling, which may be an int or a tuple."""
    return size if isinstance(size, int) else size[0]
