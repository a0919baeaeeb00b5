"""Convolutions with what follows them, in oneDNN's blocked layout, as one function with a backward pass of its own.

A run of convolutions, ReLUs and max-poolings is cut into stages: a convolution, its ReLU, and a max-pooling. The ReLU
comes before the pooling in whatever order the layers are, with the same result: oneDNN applies it to each sum before it
stores it. Against the same operators with PyTorch's autograd:

* ReLUs take no pass forward.
* the backward pass of average and maximum over the bins takes half of the time (`_of_summary`).
* what nobody needs is not computed: below the first layer that trains, nothing.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from transit_cli.model.pooling import AverageAndMaximum

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Fewer samples than this per thread are not worth a thread.
MIN_SAMPLES = 4

aten = torch.ops.aten


@dataclass(frozen=True)
class Convolution:
    """A convolution of height 1 over [B, C, 1, L].

    Attributes:
        padding: bins at each end.
        stride, dilation: in bins.
        groups: of channels.
    """

    padding: int = 0
    stride: int = 1
    dilation: int = 1
    groups: int = 1

    def forward(self, values: Tensor, weight: Tensor, bias: Tensor | None, *, relu: bool) -> Tensor:
        """[B, C, 1, L] -> [B, C', 1, L']; `weight` is [C', C, 1, K]."""
        geometry = [0, self.padding], [1, self.stride], [1, self.dilation], self.groups
        activation = "relu" if relu else "none"
        return torch.ops.mkldnn._convolution_pointwise(values, weight, bias, *geometry, activation, [], "")  # noqa: SLF001

    def backward(self, gradient: Tensor, values: Tensor, weight: Tensor, wanted: list[bool]) -> tuple[Any, ...]:
        """The gradients of `values`, `weight` and bias, None where not wanted."""
        geometry = [1, self.stride], [0, self.padding], [1, self.dilation], False, [0, 0], self.groups
        return aten.convolution_backward(gradient, values, weight, [len(weight)], *geometry, wanted)


@dataclass(frozen=True)
class MaxPooling:
    """A max-pooling over [B, C, 1, L]. oneDNN stores a byte per output, for its place, where PyTorch stores eight.

    Attributes:
        size, stride, padding, ceil_mode: as those of nn.MaxPool1d.
    """

    size: int
    stride: int
    padding: int = 0
    ceil_mode: bool = False

    @property
    def _arguments(self) -> tuple[Any, ...]:
        return [1, self.size], [1, self.stride], [0, self.padding], [1, 1], self.ceil_mode

    def forward(self, values: Tensor, *, keep_places: bool) -> Tensor:
        """[B, C, 1, L] -> [B, C, 1, L']; `keep_places` if a backward pass follows."""
        if not keep_places:
            return torch.mkldnn_max_pool2d(values, *self._arguments)
        with torch.enable_grad():  # else oneDNN keeps no places
            return torch.mkldnn_max_pool2d(values.detach().requires_grad_(), *self._arguments).detach()

    def backward(self, gradient: Tensor, output: Tensor, values: Tensor) -> Tensor:
        """The gradient of `values`."""
        return aten.mkldnn_max_pool2d_backward(gradient, output, values, *self._arguments)


@dataclass(frozen=True)
class Stage:
    """A convolution, its ReLU, and a max-pooling, of which any may be absent.

    Attributes:
        layer: the layer that has the convolution's parameters.
    """

    layer: nn.Conv1d | None = None
    convolution: Convolution | None = None
    relu: bool = False
    pooling: MaxPooling | None = None

    def parameters(self) -> list[Tensor | None]:
        """Weight [C', C, K] and bias of the convolution."""
        return [self.layer.weight, self.layer.bias] if self.layer else [None, None]


def stages(layers: Sequence[nn.Module]) -> tuple[list[Stage], bool]:
    """The layers as stages, and whether average and maximum over all bins follow.

    Args:
        layers: Conv1d, MaxPool1d and ReLU, the first a Conv1d; at the end there may be an AverageAndMaximum.
    """
    found: list[Stage] = []
    for layer in layers:
        if isinstance(layer, nn.Conv1d):
            convolution = Convolution(sizes(layer)[0], layer.stride[0], layer.dilation[0], layer.groups)
            found.append(Stage(layer, convolution))
        elif isinstance(layer, nn.MaxPool1d):
            size, stride, padding = map(scalar, (layer.kernel_size, layer.stride, layer.padding))
            pooling = MaxPooling(size, stride, padding, layer.ceil_mode)
            if found[-1].pooling:
                found.append(Stage(pooling=pooling))
            else:
                found[-1] = replace(found[-1], pooling=pooling)
        elif isinstance(layer, nn.ReLU):
            found[-1] = replace(found[-1], relu=True)
    return found, isinstance(layers[-1], AverageAndMaximum)


def sizes(layer: nn.Conv1d) -> tuple[int, ...]:
    """The padding of a convolution that is not given by name."""
    return layer.padding if isinstance(layer.padding, tuple) else (0,)


def scalar(size: int | tuple[int, ...]) -> int:
    """The size of a 1-D pooling, which may be an int or a tuple."""
    return size if isinstance(size, int) else size[0]


class Threads:
    """Threads that each compute a part of a batch, with one thread of torch.

    Args:
        count: how many.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))

    def sizes(self, samples: int) -> list[int]:
        """Samples of each part of a batch, at least `MIN_SAMPLES`."""
        count = max(1, min(self._count, samples // MIN_SAMPLES))
        ends = [samples * number // count for number in range(count + 1)]
        return [end - begin for begin, end in itertools.pairwise(ends)]

    def map(self, function: Callable[..., Any], *parts: Sequence[Any]) -> list[Any]:
        """The function's results for each part, in order."""
        return list(self._pool.map(torch.no_grad()(function), *parts))


class AllThreads(Threads):
    """The calling thread, with all threads of torch."""

    def __init__(self) -> None:
        pass

    def sizes(self, samples: int) -> list[int]:
        """One part."""
        return [samples]

    def map(self, function: Callable[..., Any], *parts: Sequence[Any]) -> list[Any]:
        """The function's results for each part, in order."""
        return list(map(function, *parts))


def run(
    stages: Sequence[Stage],
    values: Tensor,
    parameters: Sequence[Tensor | None],
    *,
    summarize: bool,
    prepare: Callable[[Tensor], Tensor] | None = None,
    threads: Threads | None = None,
) -> Tensor:
    """The stages one after another.

    Args:
        stages: in order.
        values: [B, C, L] float32.
        parameters: weight [C', C, K] and bias of each stage, None where it has none.
        summarize: whether the average and the maximum of each channel follow.
        prepare: applied to the values first; it has no gradient.
        threads: compute a part of the samples each; without them, each operator runs on all threads of torch. Their
            gradients are summed in a fixed order, so that a run repeats bit for bit.

    Returns:
        [B, C', L'], or [B, 2 x C'] if summarized.
    """
    forward = partial(_forward, stages, summarize=summarize, prepare=prepare)
    backward = partial(_backward, stages, summarize=summarize)
    return _Run.apply(forward, backward, threads or AllThreads(), values, *parameters)


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(*args: Any, **_: Any) -> Tensor:
        ctx, forward, backward, threads, values, *parameters = args
        sizes = threads.sizes(len(values))
        forward = partial(forward, parameters, keep=any(ctx.needs_input_grad))
        results, activations = zip(*threads.map(forward, values.split(sizes)), strict=True)
        ctx.backward, ctx.threads, ctx.sizes = backward, threads, sizes
        ctx.save_for_backward(*parameters)
        ctx.activations = activations  # not saved by torch, so that each can be freed once it is used
        return results[0] if len(sizes) == 1 else torch.cat(results)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        _, _, _, *wanted = ctx.needs_input_grad
        backward = partial(ctx.backward, ctx.saved_tensors, wanted=wanted)
        parts = ctx.threads.map(backward, ctx.activations, grad_outputs[0].split(ctx.sizes))
        of_values = torch.cat([of_values for of_values, _ in parts]) if wanted[0] else None
        (_, of_parameters), *others = parts
        for _, other in others:
            for gradient, piece in zip(of_parameters, other, strict=True):
                if gradient is not None:
                    gradient.add_(piece)
        return None, None, None, of_values, *of_parameters


def _forward(
    stages: Sequence[Stage],
    parameters: Sequence[Tensor | None],
    values: Tensor,
    *,
    summarize: bool,
    prepare: Callable[[Tensor], Tensor] | None,
    keep: bool,
) -> tuple[Tensor, list[Tensor]]:
    """The result, and if asked to `keep` them the activations that the backward pass needs."""
    if prepare:
        values = prepare(values)
    blocks = values.unsqueeze(2).to_mkldnn()
    activations = [blocks]
    for stage, weight, bias in zip(stages, parameters[::2], parameters[1::2], strict=True):
        if stage.convolution and weight is not None:
            convolved = stage.convolution.forward(blocks, weight.unsqueeze(2), bias, relu=stage.relu)
        else:
            convolved = torch.relu(blocks) if stage.relu else blocks
        blocks = stage.pooling.forward(convolved, keep_places=keep) if stage.pooling else convolved
        if keep:
            activations += [convolved, blocks]
    result = blocks.to_dense().squeeze(2)
    if summarize:
        features, maximum = result, result.amax(-1)
        activations += [features, maximum]
        result = torch.cat([features.mean(-1), maximum], dim=1)
    return result, activations


def _backward(
    stages: Sequence[Stage],
    parameters: Sequence[Tensor | None],
    activations: list[Tensor],
    gradient: Tensor,
    *,
    summarize: bool,
    wanted: Sequence[bool],
) -> tuple[Tensor | None, list[Tensor | None]]:
    """The gradients of the values and of the parameters, where they are wanted. Uses the activations up."""
    if summarize:
        gradient = _of_summary(gradient, maximum=activations.pop(), features=activations.pop(), relu=stages[-1].relu)
    gradient = gradient.unsqueeze(2).to_mkldnn()
    results: list[Tensor | None] = [None] * (len(wanted) - 1)
    for number in reversed(range(len(stages))):
        if not any(wanted[: 2 * number + 3]):
            return None, results  # nothing before here is trained
        stage, after, convolved = stages[number], activations.pop(), activations.pop()
        if stage.relu and not (summarize and stage is stages[-1]):
            gradient = aten.threshold_backward(gradient, after, 0)
        if stage.pooling:
            gradient = stage.pooling.backward(gradient, after, convolved)
        del after, convolved
        weight = parameters[2 * number]
        if stage.convolution and weight is not None:
            which = [any(wanted[: 2 * number + 1]), *wanted[2 * number + 1 : 2 * number + 3]]
            values = activations[-1]
            gradient, of_weight, of_bias = stage.convolution.backward(gradient, values, weight.unsqueeze(2), which)
            results[2 * number : 2 * number + 2] = of_weight.squeeze(2) if which[1] else None, of_bias
    return gradient.to_dense().squeeze(2) if wanted[0] else None, results


def _of_summary(gradient: Tensor, *, features: Tensor, maximum: Tensor, relu: bool) -> Tensor:
    """The gradient of the features, [B, C, L], before their ReLU if there was one, from that of their summary.

    Only passes that the processor does several bins at a time; comparisons and `max` with its place are not.
    """
    for_average, for_maximum = gradient.unsqueeze(2).chunk(2, dim=1)
    at_maximum = (features - maximum.unsqueeze(2)).sign_().add_(1)  # 1 or 0
    for_maximum = for_maximum / at_maximum.sum(2, keepdim=True)  # bins that share the maximum share its gradient
    gradient = at_maximum.mul_(for_maximum).add_(for_average / features.shape[2])
    return aten.threshold_backward(gradient, features, 0) if relu else gradient
