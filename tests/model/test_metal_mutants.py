"""Faults planted in the Metal sources are found, by the checks of tests/metal_shim or by the numbers."""

import pytest
import torch
from torch import nn

from tests.metal_shim import MetalFault
from tests.model.metal_cases import LARGEST_ERROR, convolution, far, learned, library, plainly, poisoned  # noqa: F401

#: Faults in the sources, and a shape at which each is found, by the checks or by the numbers.
MUTANTS = [
    ("if (first) threadgroup_barrier(mem_flags::mem_threadgroup);", "", (1, 20, 16, 16, 3, 1, "relu")),
    (
        "    threadgroup_barrier(mem_flags::mem_threadgroup);\n#if MATRICES\n    NAME",
        "#if MATRICES\n    NAME",
        (1, 20, 9, 9, 3, 1, "relu"),
    ),
    ("const bool inside = channel < C_IN && bin >= 0", "const bool inside = bin >= 0", (1, 20, 9, 9, 3, 1, "relu")),
    (
        "bin >= 0 && bin < int(length);\n      tile",
        "bin >= 0 && bin <= int(length);\n      tile",
        (1, 20, 4, 4, 3, 1, "relu"),
    ),
    ("if (channel < C_OUT && to < length_out) NAME", "NAME", (1, 21, 5, 6, 3, 1, "relu")),
    (
        "if (channel < C_IN && to < length) wanted",
        "if (channel < C_IN && to <= length) wanted",
        (1, 21, 4, 4, 3, 1, "relu"),
    ),
    (
        "if (bin < 0 || from >= int(length_out)) return 0.0f;",
        "if (from >= int(length_out)) return 0.0f;",
        (1, 21, 4, 4, 3, 1, "relu"),
    ),
    ("if (bin < 0 || from >= int(length_out)) return 0.0f;", "if (bin < 0) return 0.0f;", (1, 21, 4, 4, 3, 1, "relu")),
    ("uchar(1 + (bin & 1))", "uchar(2 - (bin & 1))", (1, 20, 4, 4, 3, 1, "pairs")),
    ("second > value || not_a_number(second)", "second < value", (1, 20, 4, 4, 3, 1, "pairs")),
    (
        "    threadgroup_barrier(mem_flags::mem_threadgroup);\n    for (uint i = thread_; i < ins",
        "    for (uint i = thread_; i < ins",
        (60, 20, 2, 2, 3, 1, "relu"),
    ),
    (
        "    threadgroup_barrier(mem_flags::mem_threadgroup);\n#if MATRICES\n    for",
        "#if MATRICES\n    for",
        (1, 70, 32, 32, 3, 1, "relu"),
    ),
    ("i < outs * 64; i += 256", "i < outs * 64 - 64; i += 256", (1, 70, 8, 8, 3, 1, "relu")),
    (
        "in_begin == 0 && thread_ < outs && out_begin + thread_ < C_OUT) mine",
        "in_begin == 0 && thread_ <= outs) mine",
        (1, 20, 8, 8, 3, 1, "relu"),
    ),
    ("if (quad < quads && in_begin + channel < C_IN)", "if (quad < quads)", (1, 20, 33, 8, 3, 1, "relu")),
    ("if (lane == 0 && out < C_OUT) mine", "if (out < C_OUT) mine", (1, 40, 1, 8, 3, 1, "relu")),
    ("sum += at[part * uint(with[3])]", "sum += at[part * uint(with[3]) + 1]", (1, 20, 4, 4, 3, 1, "relu")),
    ("part < uint(with[4]); ++part", "part <= uint(with[4]); ++part", (1, 20, 4, 4, 3, 1, "relu")),
    ("other > most || (other == most && first)", "other < most", (1, 70, 4, 4, 3, 1, "pooled")),
    ("place[row] == from ? average", "place[row] == bin + 1 ? average", (1, 20, 4, 4, 3, 1, "pooled")),
    ("if (row >= rows) return;", "", (1, 20, 3, 3, 3, 1, "pooled")),
]


#: The same where SIMD-groups multiply by matrices.
IN_MATRICES = [
    ("tile + begin + 8 * j + tap, width", "tile + begin + 8 * j, width", (1, 40, 8, 8, 3, 1, "relu")),
    ("weights + (tap * rows + i) * 8", "weights + tap * rows * 8", (1, 40, 8, 16, 3, 1, "relu")),
    (
        "ulong2(0), true);\n    UNROLL for (uint j",
        "ulong2(0), false);\n    UNROLL for (uint j",
        (1, 40, 8, 8, 3, 1, "relu"),
    ),
    (
        "float* to, uint begin) {\n  threadgroup_barrier(mem_flags::mem_threadgroup);",
        "float* to, uint begin) {",
        (1, 140, 16, 16, 5, 2, "relu"),
    ),
    ("to + 8 * i * APART(bins) + begin", "to + 8 * i * APART(bins)", (1, 70, 8, 8, 3, 1, "relu")),
    ("if (channel >= C_OUT || to >= length_out) continue;", "", (1, 21, 9, 12, 3, 1, "relu")),
    ("if (channel >= C_IN || to >= length) continue;", "", (1, 21, 9, 12, 3, 1, "relu")),
    ("from[step - 1] + shift", "from[0] + shift", (1, 40, 8, 8, 3, 1, "pairs")),
    ("const float shift = bias[channel];", "const float shift = 0.0f;", (1, 40, 8, 8, 3, 1, "relu")),
    ("if (out < C_OUT && from < C_IN) mine", "mine", (1, 40, 9, 12, 3, 1, "relu")),
    (
        "        simdgroup_barrier(mem_flags::mem_threadgroup);\n        for (uint at = lane",
        "        for (uint at = lane",
        (1, 40, 8, 8, 3, 1, "relu"),
    ),
    ("near_flat + pair / rows * 8 * row + bin + tap", "near_flat + bin + tap", (1, 40, 16, 8, 3, 1, "relu")),
    ("const uint first_pair = simd * most;", "const uint first_pair = simd;", (1, 40, 32, 32, 3, 1, "relu")),
]


def dense(relu=True):
    return nn.Sequential(nn.Linear(40, 35), *[nn.ReLU()] * relu), torch.randn(33, 40)


def head():
    return nn.Sequential(nn.LayerNorm(37), nn.Linear(37, 50), nn.ReLU(), nn.Linear(50, 1)), torch.randn(5, 37) * 3 + 1


def pool():
    return nn.Sequential(nn.MaxPool1d(5, 2), nn.ReLU()), torch.randn(2, 3, 30)


#: And of the other kernels.
OTHERS = [
    ("first + k < INPUTS;", "true;", dense),
    ("sample < samples ? float(values", "true ? float(values", dense),
    ("if (sample >= samples || unit >= UNITS) continue;", "if (sample >= samples) continue;", dense),
    ("    threadgroup_barrier(mem_flags::mem_threadgroup);\n    NAME(multiply)(left", "    NAME(multiply)(left", dense),
    ("if (first) threadgroup_barrier(mem_flags::mem_threadgroup);", "", dense),
    (
        "(AFTER == NOTHING || passes(result[at])) ? gradient[at] : 0.0f;\n      right",
        "true ? gradient[at] : 0.0f;\n      right",
        dense,
    ),
    ("+ bias[unit];\n      result", ";\n      result", dense),
    ("if (simd == 0) total += found[sample * 32 + lane];", "if (simd == 0) total += found[lane];", dense),
    ("first += programs * 32", "first += programs * 64", lambda: (dense()[0], torch.randn(70, 40))),
    ("sum = simd_sum(sum) + bias[unit];", "sum = simd_sum(sum);", head),
    ("- first - normed[at] * second", "- first", head),
    (
        "value > most || not_a_number(value)) { most = value; which",
        "value < most || not_a_number(value)) { most = value; which",
        pool,
    ),
    ("if (from >= length_out || offset >= SIZE) continue;", "if (offset >= SIZE) continue;", pool),
    ("if (origin[at] == uchar(offset))", "if (origin[at] != uchar(255))", pool),
]


def is_found(old, new, made, *, matrices=False):
    """Whether the checks or the numbers show a fault in the kernels of a network, given with its values."""
    replaced = []

    def change(source):
        replaced.append(old in source)
        return source.replace(old, new)

    torch.manual_seed(1)
    network, values = made
    wanted = plainly(network, values)
    try:
        found, _ = learned(network, library(change, checks=True, seed=7, matrices=matrices), values)
    except MetalFault:
        return True
    finally:
        assert any(replaced), f"{old!r} is in no source"
    return not max(far(*pair) for pair in zip(found, wanted, strict=True)) <= LARGEST_ERROR


@pytest.mark.parametrize(("old", "new", "shape"), MUTANTS[::5], ids=str)
def test_planted_faults_are_found(old, new, shape):
    assert is_found(old, new, convolution(shape))


@pytest.mark.torture
@pytest.mark.parametrize(("old", "new", "shape"), MUTANTS, ids=str)
def test_every_planted_fault_is_found(old, new, shape):
    assert is_found(old, new, convolution(shape))


@pytest.mark.torture
@pytest.mark.parametrize(("old", "new", "shape"), IN_MATRICES, ids=str)
def test_every_planted_fault_in_matrices_is_found(old, new, shape):
    assert is_found(old, new, convolution(shape), matrices=True)


@pytest.mark.torture
@pytest.mark.parametrize(
    ("old", "new", "made"), OTHERS, ids=lambda value: value if isinstance(value, str) else value.__name__
)
def test_every_planted_fault_in_other_kernels_is_found(old, new, made):
    assert is_found(old, new, made())
