"""Channels-last convolutions on a CPU, without touching a network's parameters.

Each Conv1d is computed as a Conv2d of height 1 whose tensors keep the channels of a bin side by side. oneDNN then needs
no reordering between layers, and its kernels read whole cache lines: measured 1.6 to 1.8 times as fast. Tensors
keep their usual logical shape [B, C, L] everywhere; only their strides differ, so whatever stands between the
convolutions works as before. Names and shapes of parameters, and so checkpoints, do not change.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F  # noqa: N812 - as everybody writes it
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


@contextmanager
def replaced(forwards: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Within, modules run these functions instead of their own `forward`."""
    for module, forward in forwards.items():
        module.__dict__["forward"] = forward  # past nn.Module.__setattr__, which is slow and has nothing to do here
    try:
        yield
    finally:
        for module in forwards:
            del module.__dict__["forward"]


def channels_last(network: nn.Module) -> dict[nn.Module, Callable[..., Any]]:
    """Forwards for `replaced` that compute the network's 1-D convolutions and max-poolings channels-last.

    Modules that do more (paddings other than zeros, subclasses, a forward that somebody replaced) stay as they are.
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


def _convolve(module: nn.Conv1d, values: Tensor) -> Tensor:
    """Shape: [B, C, L] -> [B, C', L'], channels last."""
    if values.ndim != 3:
        return nn.Conv1d.forward(module, values)
    padding = module.padding if isinstance(module.padding, str) else (0, *module.padding)
    weight = module.weight.unsqueeze(2)
    stride, dilation = (1, *module.stride), (1, *module.dilation)
    return F.conv2d(_last(values).unsqueeze(2), weight, module.bias, stride, padding, dilation, module.groups).squeeze(
        2
    )


def _pool(module: nn.MaxPool1d, values: Tensor) -> Tensor:
    """Shape: [B, C, L] -> [B, C, L'], channels last."""
    if values.ndim != 3:
        return nn.MaxPool1d.forward(module, values)
    size, stride = _one(module.kernel_size), _one(module.stride)
    padding, dilation = _one(module.padding), _one(module.dilation)
    pooled = F.max_pool2d(
        _last(values).unsqueeze(2), (1, size), (1, stride), (0, padding), (1, dilation), module.ceil_mode
    )
    return pooled.squeeze(2)


def _one(size: int | tuple[int, ...]) -> int:
    """A pooling's size, which may be given as a number or as a tuple of one."""
    return size if isinstance(size, int) else size[0]


def _last(values: Tensor) -> Tensor:
    """[B, C, L] with the channels of a bin side by side: strides (L x C, 1, C)."""
    if values.shape[1] == 1:  # nothing to move, but the strides must say so: those of [B, 1, L] can be read either way
        return values.squeeze(1).unsqueeze(2).transpose(1, 2)
    return values.transpose(1, 2).contiguous().transpose(1, 2)
