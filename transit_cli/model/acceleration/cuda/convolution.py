"""A convolution with its bias, max-pooling and ReLU as one kernel, differentiable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import triton
from torch import Tensor, nn

from transit_cli.model.acceleration.cuda import convolution_kernels, weight_kernels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

kernels: Any = convolution_kernels  # Triton's launch syntax is not typed
weights: Any = weight_kernels

#: A layer's weight as [taps, C_OUT, C_IN] and [taps, C_IN, C_OUT].
Transposed = tuple[Tensor, Tensor]
#: Values of a chunk of `TransposedWeights`.
CHUNK = 1024


@dataclass(frozen=True)
class Tile:
    """Tile sizes and launch options of a kernel, named as in Triton's matrix products."""

    block_m: int
    block_n: int
    block_k: int
    warps: int
    stages: int


#: For up to 32 output channels, and for more: the best, or nearly, of some 500 choices on an H100 for the layers of
#: two-branch and astronet at batch 64, in TF32 and in bfloat16.
FORWARD = (Tile(64, 32, 32, 2, 3), Tile(64, 128, 64, 4, 2))
BACKWARD = (Tile(64, 32, 32, 4, 3), Tile(64, 128, 64, 4, 2))
WEIGHT = (Tile(64, 32, 128, 4, 2), Tile(64, 64, 128, 4, 2))
#: The same where float32 is multiplied as scaled float16, on an H200.
WEIGHT_SCALED = (Tile(64, 32, 64, 4, 1), Tile(64, 64, 32, 4, 1))
#: Programs that compute a weight gradient: four per multiprocessor of an H100, and three of an H200 as scaled float16.
PROGRAMS, PROGRAMS_SCALED = 528, 396
#: The same for one input channel, where there are no matrix products: bins and channels of a program's step, warps for
#: seven taps and the bias, and programs.
FIRST_BLOCK_K, FIRST_BLOCK_N, FIRST_WARPS, FIRST_PROGRAMS = 16, 16, 2, 1056
#: cuDNN computes the weight gradient of layers with as many channels on both sides, and on one of them, in float32 and
#: in half precision: up to five times as fast as the kernel here on an H200.
CUDNN_CHANNELS, CUDNN_CHANNELS_HALF = (64, 128), (32, 64)


@dataclass(frozen=True)
class FusedConvolution:
    """A convolution with its epilogue, as one kernel.

    Attributes:
        layer: with the parameters.
        epilogue: one of those in `convolution_kernels`.
        masks_input: its input comes from a RELU_MASKED_BEHIND.
    """

    layer: nn.Conv1d
    epilogue: int
    masks_input: bool = False

    def __call__(self, values: Tensor, transposed: Mapping[nn.Module, Transposed]) -> Tensor:
        """[B, L, C_IN] -> [B, L_OUT, C_OUT]."""
        layer = self.layer
        forward, backward = transposed.get(layer) or transpose(layer.weight, values.dtype)
        padding = layer.padding[0]
        assert isinstance(padding, int)
        return _Convolution.apply(
            values, layer.weight, layer.bias, forward, backward, self.epilogue, padding, self.masks_input
        )


def transpose(weight: Tensor, dtype: torch.dtype) -> Transposed:
    """A weight [C_OUT, C_IN, taps] in the orders that the kernels read."""
    c_out, c_in, taps = weight.shape
    forward = torch.empty(taps, c_out, c_in, dtype=dtype, device=weight.device)
    backward = torch.empty(taps, c_in, c_out, dtype=dtype, device=weight.device)
    kernels.transpose_weight[(triton.cdiv(weight.numel(), CHUNK),)](
        weight, forward, backward, weight.numel(), C_IN=c_in, C_OUT=c_out, TAPS=taps, BLOCK=CHUNK
    )
    return forward, backward


class TransposedWeights:
    """The weights of several layers in the orders that the kernels read, filled by one kernel.

    Attributes:
        of: the two orders of each layer's weight.
    """

    def __init__(self, layers: Sequence[nn.Conv1d], dtype: torch.dtype) -> None:
        self.of: dict[nn.Module, Transposed] = {}
        self._dtype = dtype
        chunks: list[tuple[int, ...]] = []
        for layer in layers:
            c_out, c_in, taps = layer.weight.shape
            forward = torch.empty(taps, c_out, c_in, dtype=dtype, device=layer.weight.device)
            backward = torch.empty(taps, c_in, c_out, dtype=dtype, device=layer.weight.device)
            self.of[layer] = forward, backward
            addresses = layer.weight.data_ptr(), forward.data_ptr(), backward.data_ptr()
            chunks += [(*addresses, c_in, c_out, taps, first) for first in range(0, layer.weight.numel(), CHUNK)]
        self._table = torch.tensor(chunks, dtype=torch.int64).to(layers[0].weight.device)

    def refresh(self) -> None:
        """Fill them with the layers' present weights."""
        element = {torch.float32: kernels.tl.float32, torch.bfloat16: kernels.tl.bfloat16}.get(
            self._dtype, kernels.tl.float16
        )
        kernels.transpose_weights[(len(self._table),)](self._table, ELEMENT=element, BLOCK=CHUNK)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(*args: Any, **_: Any) -> Tensor:
        ctx, values, _weight, bias, forward_weight, backward_weight, epilogue, padding, masks_input = args
        values = values.contiguous()
        samples, length, c_in = values.shape
        taps, c_out, _ = forward_weight.shape
        bins = length + 2 * padding - taps + 1
        length_out = bins // 2 if epilogue == kernels.POOL_RELU else bins
        output = values.new_empty(samples, length_out, c_out)
        recorded = epilogue in (kernels.RELU, kernels.POOL_RELU)
        argmax_mask = torch.empty_like(output, dtype=torch.int8) if recorded else output
        rows, tile = samples * length_out, FORWARD[c_out > 32]
        block_n = min(c_out, tile.block_n)
        kernels.conv_forward[(triton.cdiv(rows, tile.block_m), c_out // block_n)](
            values, forward_weight, bias, output, argmax_mask,
            rows, length, length_out, taps, padding,
            C_IN=c_in, C_OUT=c_out, EPILOGUE=epilogue, BLOCK_M=tile.block_m, BLOCK_N=block_n,
            BLOCK_K=max(16, triton.next_power_of_2(taps)) if c_in == 1 else min(c_in, tile.block_k),
            PRECISION=precision(), num_warps=tile.warps, num_stages=tile.stages,
        )  # fmt: skip
        ctx.save_for_backward(values, backward_weight, argmax_mask if recorded else None)
        ctx.epilogue = epilogue if recorded else kernels.NONE  # the layer behind has masked the gradient
        ctx.padding, ctx.masks_input = padding, masks_input
        return output

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        values, backward_weight, argmax_mask = ctx.saved_tensors
        grad_output = grad_outputs[0].contiguous()
        argmax_mask = grad_output if argmax_mask is None else argmax_mask
        grad_input = None
        if ctx.needs_input_grad[0]:
            grad_input = _input_grad(ctx, values, backward_weight, argmax_mask, grad_output)
        taps, c_in, c_out = backward_weight.shape
        fewest, most = CUDNN_CHANNELS if values.dtype == torch.float32 else CUDNN_CHANNELS_HALF
        if ctx.epilogue == kernels.NONE and min(c_in, c_out) >= fewest and max(c_in, c_out) >= most:
            grad_weight, grad_bias = _library_weight_grad(ctx.padding, values, grad_output, taps)
        else:
            grad_weight, grad_bias = _weight_grad(ctx, values, argmax_mask, grad_output, taps)
        return grad_input, grad_weight, grad_bias, None, None, None, None, None


def _input_grad(ctx: Any, values: Tensor, weight: Tensor, argmax_mask: Tensor, grad_output: Tensor) -> Tensor:
    samples, length, c_in = values.shape
    taps, _, c_out = weight.shape
    wide = max(c_in, 16)  # tl.dot needs at least 16 columns; those beyond c_in are dropped
    if wide > c_in:
        weight = weight.expand(-1, wide, -1).contiguous()
    grad_input = grad_output.new_empty(samples, length, wide)
    tile = BACKWARD[c_out > 32]
    block_n = min(wide, tile.block_n)
    common = {
        "C_IN": wide, "C_OUT": c_out, "TAPS": taps, "MASK_INPUT": ctx.masks_input, "PRECISION": precision(),
        "BLOCK_M": tile.block_m, "BLOCK_N": block_n, "BLOCK_K": min(c_out, tile.block_k),
        "num_warps": tile.warps, "num_stages": tile.stages,
    }  # fmt: skip
    tensors, length_out = (grad_output, argmax_mask, weight, values, grad_input), grad_output.shape[1]
    if ctx.epilogue == kernels.POOL_RELU:
        rows = samples * ((length + 1) // 2)
        kernels.conv_pool_input_grad[(triton.cdiv(rows, tile.block_m), wide // block_n)](
            *tensors, rows, length, length_out, PADDING=ctx.padding, **common
        )
    else:
        rows = samples * length
        kernels.conv_input_grad[(triton.cdiv(rows, tile.block_m), wide // block_n)](
            *tensors, rows, length, length_out, ctx.padding, EPILOGUE=ctx.epilogue, **common
        )
    return grad_input[..., :c_in]


def _weight_grad(
    ctx: Any, values: Tensor, argmax_mask: Tensor, grad_output: Tensor, taps: int
) -> tuple[Tensor, Tensor]:
    samples, length, c_in = values.shape
    length_out, c_out = grad_output.shape[1:]
    pooled = ctx.epilogue == kernels.POOL_RELU
    rows, weight_rows = samples * length_out, taps * c_in + 1
    tensors, shape = (values, grad_output, argmax_mask), (rows, length, length_out)
    grad_weight = torch.empty(c_out, c_in, taps, dtype=torch.float32, device=values.device)
    grad_bias = grad_weight.new_empty(c_out)
    if c_in == 1:
        padded, block_n = triton.next_power_of_2(weight_rows), FIRST_BLOCK_N
        steps, programs = _share(rows, FIRST_BLOCK_K, FIRST_PROGRAMS // (c_out // block_n))
        sums = (grad_weight.new_empty(programs, padded, c_out),)
        weights.weight_grad_first[(programs, c_out // block_n)](
            *tensors, *sums, *shape, ctx.padding, steps,
            C_OUT=c_out, TAPS=taps, EPILOGUE=ctx.epilogue, PADDED=padded, BLOCK_K=FIRST_BLOCK_K, BLOCK_N=block_n,
            num_warps=max(2, FIRST_WARPS * padded // 8),
        )  # fmt: skip
        _sum_weight_grad(sums, grad_weight, grad_bias)
        return grad_weight, grad_bias
    scaled = values.dtype == torch.float32 and precision() == "tf32"
    tiles, most = (WEIGHT_SCALED, PROGRAMS_SCALED) if scaled else (WEIGHT, PROGRAMS)
    tile = tiles[c_out > 32]
    seen = (taps + 1) * c_in if pooled else weight_rows
    block_m = min(tile.block_m, max(16, triton.next_power_of_2(seen)))
    padded, block_n = triton.cdiv(seen, block_m) * block_m, min(c_out, tile.block_n)
    steps, programs = _share(rows, tile.block_k, most // (padded // block_m * (c_out // block_n)))
    grid = programs, padded // block_m, c_out // block_n
    options = {
        "C_IN": c_in, "C_OUT": c_out, "PADDED": padded, "SCALED": scaled, "PRECISION": precision(),
        "BLOCK_M": block_m, "BLOCK_N": block_n, "BLOCK_K": tile.block_k,
        "num_warps": tile.warps, "num_stages": tile.stages,
    }  # fmt: skip
    if pooled:
        sums = grad_weight.new_empty(programs, padded, 2, c_out), grad_weight.new_empty(programs, c_out)
        weights.weight_grad_pooled[grid](*tensors, *sums, *shape, taps, ctx.padding, steps, **options)
    else:
        sums = (grad_weight.new_empty(programs, padded, c_out),)
        weights.weight_grad_partial[grid](
            *tensors, *sums, *shape, taps, ctx.padding, steps, EPILOGUE=ctx.epilogue, **options
        )
    _sum_weight_grad(sums, grad_weight, grad_bias)
    return grad_weight, grad_bias


def _sum_weight_grad(sums: tuple[Tensor, ...], grad_weight: Tensor, grad_bias: Tensor) -> None:
    """Sum what the programs have summed: one tensor, or with pooling two."""
    programs, padded = sums[0].shape[:2]
    c_out, c_in, taps = grad_weight.shape
    block_p = min(1024, triton.next_power_of_2(programs))
    block = max(4, 4096 // block_p)
    kernel = weights.weight_grad_reduce if len(sums) == 1 else weights.pooled_grad_reduce
    kernel[(triton.cdiv((taps * c_in + 1) * c_out, block),)](
        *sums, grad_weight, grad_bias, programs, taps,
        C_IN=c_in, C_OUT=c_out, PADDED=padded, BLOCK_P=block_p, BLOCK=block,
    )  # fmt: skip


def _share(rows: int, block: int, programs: int) -> tuple[int, int]:
    """Blocks of rows that each program sums, and the number of programs, at most about `programs`."""
    steps = triton.cdiv(rows, block * max(1, programs))
    return steps, triton.cdiv(rows, block * steps)


def _library_weight_grad(padding: int, values: Tensor, grad_output: Tensor, taps: int) -> tuple[Tensor, Tensor]:
    """By cuDNN, as a 2-D convolution of height 1 in channels-last memory format."""
    c_in, c_out = values.shape[2], grad_output.shape[2]
    image, grad = (part.unsqueeze(1).permute(0, 3, 1, 2) for part in (values, grad_output))
    shape = torch.empty(
        c_out, c_in, 1, taps, dtype=values.dtype, device=values.device, memory_format=torch.channels_last
    )
    cudnn = torch.backends.cudnn  # its sums in a fixed order are as fast
    with cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=cudnn.allow_tf32):
        _, grad_weight, _ = torch.ops.aten.convolution_backward(
            grad, image, shape, [c_out], [1, 1], [0, padding], [1, 1], False, [0, 0], 1, [False, True, False]
        )
    return grad_weight.squeeze(2).float(), _column_sums(grad_output.view(-1, c_out))


def _column_sums(values: Tensor) -> Tensor:
    rows, columns = values.shape
    block_n = min(columns, 64)
    steps, programs = _share(rows, 32, PROGRAMS // (columns // block_n))
    partial = values.new_empty(programs, columns, dtype=torch.float32)
    weights.column_sums[(programs, columns // block_n)](
        values, partial, rows, steps, columns=columns, BLOCK_M=32, BLOCK_N=block_n
    )
    sums = partial.new_empty(columns)
    weights.sum_partial[(triton.cdiv(columns, 8),)](partial, sums, programs, columns, BLOCK_P=512, BLOCK=8)
    return sums


def precision() -> str:
    """Precision of float32 products, as PyTorch's convolutions have it."""
    return "tf32" if torch.backends.cudnn.allow_tf32 else "ieee"
