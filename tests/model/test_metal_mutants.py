"""Faults planted in the Metal sources are found, by the checks of tests/metal_shim or by the numbers."""

import pytest

from tests.metal_shim import MetalFault
from tests.model.metal_cases import LARGEST_ERROR, convolution, far, learned, library, plainly, poisoned  # noqa: F401

#: Faults in the sources, and a shape at which each is found, by the checks or by the numbers.
MUTANTS = [
    ("if (first) threadgroup_barrier(mem_flags::mem_threadgroup);", "", (1, 20, 16, 16, 3, 1, "relu")),
    (
        "    threadgroup_barrier(mem_flags::mem_threadgroup);\n    NAME(multiply)",
        "    NAME(multiply)",
        (1, 20, 9, 9, 3, 1, "relu"),
    ),
    ("const bool inside = channel < C_IN && bin >= 0", "const bool inside = bin >= 0", (1, 20, 9, 9, 3, 1, "relu")),
    (
        "bin >= 0 && bin < int(length);\n      tile",
        "bin >= 0 && bin <= int(length);\n      tile",
        (1, 20, 4, 4, 3, 1, "relu"),
    ),
    ("if (channel >= C_OUT || to >= length_out) continue;", "", (1, 21, 5, 6, 3, 1, "relu")),
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
        "    threadgroup_barrier(mem_flags::mem_threadgroup);\n    if (quad < quads)",
        "    if (quad < quads)",
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


def is_found(old, new, shape):
    replaced = []

    def change(source):
        replaced.append(old in source)
        return source.replace(old, new)

    network, values = convolution(shape)
    wanted = plainly(network, values)
    try:
        found, _ = learned(network, library(change, checks=True, seed=7), values)
    except MetalFault:
        return True
    finally:
        assert any(replaced), f"{old!r} is in no source"
    return not max(far(*pair) for pair in zip(found, wanted, strict=True)) <= LARGEST_ERROR


@pytest.mark.parametrize(("old", "new", "shape"), MUTANTS[::3], ids=str)
def test_planted_faults_are_found(old, new, shape):
    assert is_found(old, new, shape)


@pytest.mark.torture
@pytest.mark.parametrize(("old", "new", "shape"), MUTANTS, ids=str)
def test_every_planted_fault_is_found(old, new, shape):
    assert is_found(old, new, shape)
