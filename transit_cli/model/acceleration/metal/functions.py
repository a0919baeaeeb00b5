"""The kernels in autograd: convolution with what follows it, max-pooling, the head, the loss.

Gradients of weights and biases do not come back through autograd: they are noted in `Gradients`, which computes them
all at once when the backward pass has ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from transit_cli.model.acceleration.metal.gradients import ENOUGH_GROUPS, PROGRAMS, Gradients, Job
from transit_cli.model.acceleration.metal.library import TYPES, Library

#: What follows a convolution, as in common.metal.
NOTHING, RELU, PAIRS, POOLED = 0, 1, 2, 3
#: Threads of a group that computes a convolution, and the bins of each.
THREADS, BINS = 128, 8
MOST_SLOTS = 32
#: Bins of a SIMD-group that multiplies by matrices, its threads, and the channels from which on it may.
MATRIX_BINS, SIMD_GROUP, MATRIX_CHANNELS = 32, 32, 8


@dataclass(frozen=True)
class Convolution:
    """A convolution with what follows it: one kernel, or two with the average and the maximum."""

    layer: nn.Conv1d
    after: int
    library: Library
    gradients: Gradients | None

    def __call__(self, values: Tensor) -> Tensor:
        """[B, C_IN, L] -> [B, C_OUT, L_OUT]; with POOLED [B, 2 C_OUT] float32."""
        weight, bias = self.layer.weight, self.layer.bias
        if not torch.is_grad_enabled():
            return _convolved(values, weight, bias, self, keep=False).result
        return _Convolve.apply(values, weight, bias, self)


@dataclass(frozen=True)
class Pooling:
    """A max-pooling and the ReLU that follows it: one kernel."""

    size: int
    stride: int
    library: Library

    def __call__(self, values: Tensor) -> Tensor:
        """[B, C, L] -> [B, C, L_OUT]."""
        if not torch.is_grad_enabled():
            return _pooled(values, self, keep=False)[0]
        return _Pool.apply(values, self)


@dataclass(frozen=True)
class Head:
    """LayerNorm, a hidden layer with ReLU and dropout, and the logit."""

    norm: nn.LayerNorm
    hidden: nn.Linear
    dropout: nn.Dropout | None
    last: nn.Linear
    library: Library
    gradients: Gradients | None

    def __call__(self, features: Tensor) -> Tensor:
        """[B, J] -> logits [B, 1], float32."""
        learned = (self.norm.weight, self.norm.bias, self.hidden.weight, self.hidden.bias)
        return _Head.apply(features.float(), *learned, self.last.weight, self.last.bias, self)


def quads(channels: int) -> int:
    """How many channels a threadgroup computes, in fours."""
    return min(-(-channels // 4), 16 if channels >= 64 else 8)


def slots(bins: int, columns: int) -> int:
    """Threads of a group side by side along the bins: no more than there is work for."""
    return max(1, min(THREADS // columns, MOST_SLOTS, -(-bins // BINS)))


@dataclass(frozen=True)
class Tiles:
    """How a threadgroup divides channels and bins.

    Attributes:
        quads: channels, in fours.
        slots: bins, in eights.
        threads: of the group.
        matrices: whether its SIMD-groups multiply by matrices.
    """

    quads: int
    slots: int
    threads: int
    matrices: bool

    def defines(self, prefix: str = "") -> dict[str, int]:
        """As the sources want them."""
        numbers = {"QUADS": self.quads, "SLOTS": self.slots, "THREADS": self.threads, "MATRICES": int(self.matrices)}
        return {prefix + name: number for name, number in numbers.items()}


def tiles(channels: int, others: int, bins: int, *, matrices: bool) -> Tiles:
    """For `channels` of `bins` that are computed from `others`."""
    if matrices and min(channels, others) >= MATRIX_CHANNELS:
        groups = max(1, min(THREADS // SIMD_GROUP, -(-bins // MATRIX_BINS)))
        return Tiles(min(-(-channels // 8), 4) * 2, groups * MATRIX_BINS // BINS, groups * SIMD_GROUP, matrices=True)
    columns = quads(channels)
    along = slots(bins, columns)
    return Tiles(columns, along, columns * along, matrices=False)


@dataclass(frozen=True)
class _Convolved:
    """What a convolution's kernels left: its result, and what its gradients need."""

    result: Tensor
    values: Tensor
    weight: Tensor
    passed: Tensor
    place: Tensor
    defines: dict[str, Any]
    length_out: int


def _convolved(values: Tensor, weight: Tensor, bias: Tensor | None, layer: Convolution, *, keep: bool) -> _Convolved:
    """Run the forward kernels; without `keep` nothing is stored for the way back."""
    assert bias is not None
    values, weight, bias = values.contiguous(), weight.contiguous(), bias.contiguous()
    samples, c_in, length = values.shape
    c_out, _, taps = weight.shape
    padding, after = int(layer.layer.padding[0]), layer.after
    bins = length + 2 * padding - taps + 1
    length_out = bins // 2 if after == PAIRS else bins
    kind = values.dtype
    if torch.is_autocast_enabled(values.device.type):
        kind = torch.get_autocast_dtype(values.device.type)
    there = tiles(c_out, c_in, bins, matrices=layer.library.matrices)
    back = tiles(c_in, c_out, length, matrices=layer.library.matrices)
    defines: dict[str, Any] = {
        "VALUE": TYPES[values.dtype], "RESULT": TYPES[kind],
        "GRADIENT": "float" if after == POOLED else TYPES[kind],
        "C_IN": c_in, "C_OUT": c_out, "TAPS": taps, "PADDING": padding, "AFTER": after, "KEEP": int(keep),
        **there.defines(), **back.defines("BACK_"),
    }  # fmt: skip
    result = values.new_empty(samples, c_out, length_out, dtype=kind)
    passed = result.new_empty(result.shape if keep and after != NOTHING else 1, dtype=torch.uint8)
    convolve = layer.library.kernel("convolution", "convolve", there.threads, **defines)
    convolve(
        values, weight, bias, result, passed, length, length_out,
        groups=[-(-bins // (there.slots * BINS)), -(-c_out // (there.quads * 4)), samples],
    )  # fmt: skip
    place = passed.new_empty(samples * c_out if after == POOLED else 1, dtype=torch.int32)
    if after == POOLED:
        result = average_and_maximum(layer.library, result, place)
    return _Convolved(result, values, weight, passed, place, defines, length_out)


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(*args: Any, **_: Any) -> Tensor:
        ctx, values, weight, bias, layer = args
        done = _convolved(values, weight, bias, layer, keep=True)
        ctx.save_for_backward(done.values, done.weight, done.passed, done.place)
        ctx.layer, ctx.defines, ctx.length_out = layer, done.defines, done.length_out
        return done.result

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        values, weight, passed, place = ctx.saved_tensors
        layer, defines = ctx.layer, ctx.defines
        gradient = grad_outputs[0]
        if not (layer.after == POOLED and gradient.stride(1) == 1):  # rows that lie apart are read where they are
            gradient = gradient.contiguous()
        samples, c_in, length = values.shape
        stride = gradient.stride(0) if layer.after == POOLED else 0
        to_values = None
        if ctx.needs_input_grad[0]:
            to_values = torch.empty_like(values)
            columns, along = defines["BACK_QUADS"], defines["BACK_SLOTS"]
            back = layer.library.kernel("convolution", "convolve_back", defines["BACK_THREADS"], **defines)
            back(
                gradient, passed, place, weight, to_values, length, ctx.length_out, stride,
                groups=[-(-length // (along * BINS)), -(-c_in // (columns * 4)), samples],
            )  # fmt: skip
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            layer.gradients.add(_job(layer, defines, (values, gradient, passed, place), ctx.length_out, stride))
        return to_values, None, None, None


def _job(layer: Convolution, defines: dict[str, Any], tensors: tuple[Tensor, ...], length_out: int, stride: int) -> Job:
    """What the weights of a convolution need."""
    names = ("VALUE", "GRADIENT", "C_IN", "C_OUT", "TAPS", "PADDING", "AFTER")
    samples, c_in, length = tensors[0].shape
    c_out, taps, bins = defines["C_OUT"], defines["TAPS"], length_out * (2 if layer.after == PAIRS else 1)
    matrices = layer.library.matrices and min(c_in, c_out) >= MATRIX_CHANNELS
    around = (taps + 2) // 4 * 4
    row = 64 + around if around % 8 else 68 + around
    outs, ins = (
        (min(-(-c // step) * step, 32)) for c, step in ((c_out, 8 if matrices else 4), (c_in, 8 if matrices else 1))
    )
    pieces = samples if c_in == 1 else samples * -(-bins // 64)
    blocks = -(-c_out // 32) if c_in == 1 else -(-c_in // ins) * -(-c_out // outs)
    weight, bias = layer.layer.weight, layer.layer.bias
    learned = ((weight, 0), (bias, weight.numel()))
    return Job(
        file="weights",
        function="weigh",
        defines=(*((name, defines[name]) for name in names), ("MATRICES", int(matrices))),
        types=(defines["VALUE"], defines["GRADIENT"], "uchar", "int" if layer.after == POOLED else ""),
        tensors=tensors if layer.after == POOLED else tensors[:3],
        sizes=(samples, length, length_out, stride),
        numbers=weight.numel() + c_out,
        programs=min(PROGRAMS, pieces, -(-ENOUGH_GROUPS // blocks)),
        blocks=blocks,
        scratch=16 if c_in == 1 else (ins * row + outs * 68) * 4,
        parameters=tuple((p, at) for p, at in learned if isinstance(p, nn.Parameter) and p.requires_grad),
    )


def average_and_maximum(library: Library, values: Tensor, place: Tensor) -> Tensor:
    """Averages and maxima [B, 2 C] float32 of values [B, C, L]; the maxima's bins go to place [B x C] int32."""
    samples, channels, length = values.shape
    kernel = library.kernel("pooling", "average_and_maximum", 256, VALUE=TYPES[values.dtype], SIZE=1, STRIDE=1, KEEP=1)
    features = values.new_empty(samples, 2 * channels, dtype=torch.float32)
    kernel(values, features, place, length, channels, len(place), groups=-(-len(place) // 8))
    return features


def _pooled(values: Tensor, layer: Pooling, *, keep: bool) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """The result, and which of its bins each came from, where the way back needs it."""
    values = values.contiguous()
    *rows, length = values.shape
    length_out = (length - layer.size) // layer.stride + 1
    result = values.new_empty(*rows, length_out)
    origin = result.new_empty(result.shape if keep else 1, dtype=torch.uint8)
    defines = {"VALUE": TYPES[values.dtype], "SIZE": layer.size, "STRIDE": layer.stride, "KEEP": int(keep)}
    pool = layer.library.kernel("pooling", "pool", 256, **defines)
    pool.over(values, result, origin, length, length_out, count=result.numel())
    return result, origin, defines


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(*args: Any, **_: Any) -> Tensor:
        ctx, values, layer = args
        result, origin, ctx.defines = _pooled(values, layer, keep=True)
        ctx.save_for_backward(origin)
        ctx.layer, ctx.shape = layer, values.shape
        return result

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (origin,) = ctx.saved_tensors
        gradient = grad_outputs[0].contiguous()
        wanted = gradient.new_empty(ctx.shape)
        back = ctx.layer.library.kernel("pooling", "pool_back", 256, **ctx.defines)
        back.over(gradient, origin, wanted, ctx.shape[-1], gradient.shape[-1], count=wanted.numel())
        return wanted, None


class _Head(torch.autograd.Function):
    @staticmethod
    def forward(*args: Any, **_: Any) -> Tensor:
        ctx, features, gain, shift, weight, bias, last, last_bias, layer = args
        features = features.contiguous()
        (samples, joined), hidden = features.shape, len(weight)
        drop = layer.dropout.p if layer.dropout is not None and layer.dropout.training else 0.0
        mask = features.new_empty(samples, hidden).bernoulli_(1 - drop) if drop else features.new_empty(1)
        defines = {"JOINED": joined, "HIDDEN": hidden, "DROPOUT": int(drop > 0), "EPSILON": f"{layer.norm.eps:.9e}f"}
        normed, units = torch.empty_like(features), features.new_empty(samples, hidden)
        inverse, logits = features.new_empty(samples), features.new_empty(samples, 1)
        scale = float(1 / (1 - drop))
        head = layer.library.kernel("head", "head", 128, **defines)
        head(
            features, gain, shift, weight, bias, last, last_bias, mask, normed, inverse, units, logits, scale,
            groups=samples,
        )  # fmt: skip
        ctx.save_for_backward(gain, shift, weight, last, mask, normed, inverse, units)
        ctx.layer, ctx.defines, ctx.scale = layer, defines, scale
        return logits

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        gain, shift, weight, last, mask, normed, inverse, units = ctx.saved_tensors
        to_logits = grad_outputs[0].contiguous()
        to_units, to_given, wanted = torch.empty_like(units), torch.empty_like(normed), torch.empty_like(normed)
        back = ctx.layer.library.kernel("head", "head_back", 128, **ctx.defines)
        back(
            to_logits, gain, weight, last, mask, normed, inverse, units, to_units, to_given, wanted, ctx.scale,
            groups=len(units),
        )  # fmt: skip
        layer = ctx.layer
        learned: list[tuple[Tensor | None, int]] = []
        place = 0
        for parameter in (layer.norm.weight, layer.norm.bias, layer.hidden.weight, layer.hidden.bias):
            learned.append((parameter, place))
            place += parameter.numel()
        learned += [(layer.last.weight, place), (layer.last.bias, place + layer.last.weight.numel())]
        numbers = place + layer.last.weight.numel() + 1
        tensors = (to_logits, to_units, to_given, normed, units, gain, shift)
        layer.gradients.add(
            Job(
                file="head",
                function="head_weigh",
                defines=tuple(ctx.defines.items()),
                types=("float",) * len(tensors),
                tensors=tensors,
                sizes=(len(units), 0, 0, 0),
                numbers=numbers,
                programs=min(4, -(-len(units) // 64)),
                blocks=-(-numbers // 256),
                scratch=0,
                parameters=tuple((p, at) for p, at in learned if isinstance(p, nn.Parameter) and p.requires_grad),
            )
        )
        return wanted, *[None] * 7


def cross_entropy(
    library: Library, logits: Tensor, targets: Tensor, *, share: float, smoothing: float, positive_weight: float
) -> tuple[Tensor, Tensor]:
    """The mean loss of logits [B] times share, a scalar, and its gradient [B]."""
    logits, targets = logits.contiguous(), targets.contiguous()
    loss, gradient = logits.new_empty(()), torch.empty_like(logits)
    kernel = library.kernel("loss", "cross_entropy", 256)
    settings = [float(share), float(smoothing), float(positive_weight)]
    kernel(logits, targets, loss.view(1), gradient, settings, len(logits), groups=1)
    return loss, gradient
