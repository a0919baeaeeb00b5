"""The shim itself: what runs as on a GPU, what torch.mps refuses, and faults that are found."""

import pytest
import torch

from tests.metal_shim import MetalFault, compile_shader, typecheck
from transit_cli.model.acceleration.metal.library import Library, source

SOURCE = r"""
#include <metal_stdlib>
using namespace metal;
constant float table[3] = {1.0f, 2.0f, 3.0f};
kernel void halves(device const half* x [[buffer(0)]], device bfloat* y [[buffer(1)]], constant float& by [[buffer(2)]],
                   uint i [[thread_position_in_grid]]) {
  y[i] = bfloat(float(x[i]) * by + table[i % 3]);
}
kernel void sums(device const float* x [[buffer(0)]], device float* y [[buffer(1)]], uint i [[thread_position_in_grid]],
                 uint lane [[thread_index_in_simdgroup]], uint simd [[simdgroup_index_in_threadgroup]]) {
  threadgroup float held[2];
  const float sum = simd_sum(x[i]);
  if (lane == 0) held[simd] = sum;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[i] = held[0] + held[1];
}
kernel void where(device int* y [[buffer(0)]], uint3 i [[thread_position_in_grid]], uint3 size [[threads_per_threadgroup]]) {
  y[i.y * 10 + i.x] = int(size.x);
}
kernel void reverse(device float* x [[buffer(0)]], constant uint& n [[buffer(1)]], uint i [[thread_position_in_grid]]) {
  x[i] = x[n - 1 - i];
}
kernel void neighbours(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  threadgroup float t[64];
  t[i] = x[i];
  simdgroup_barrier(mem_flags::mem_threadgroup);
  x[i] = t[i ^ 1];
}
kernel void strangers(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  threadgroup float t[64];
  t[i] = x[i];
  simdgroup_barrier(mem_flags::mem_threadgroup);
  x[i] = t[i ^ 32];
}
kernel void wrong_flag(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  threadgroup float t[64];
  t[i] = x[i];
  threadgroup_barrier(mem_flags::mem_device);
  x[i] = t[i ^ 32];
}
kernel void unwritten(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  threadgroup float t[64];
  if (i < 32) t[i] = x[i];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  x[i] = t[i];
}
kernel void left_early(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  if (i == 5) return;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  x[i] = 0.0f;
}
kernel void parted(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  if (i % 2) x[i] = simd_sum(x[i]);
  else threadgroup_barrier(mem_flags::mem_threadgroup);
}
kernel void product(device const float* a [[buffer(0)]], device const float* b [[buffer(1)]], device float* y [[buffer(2)]],
                    uint lane [[thread_index_in_simdgroup]]) {
  threadgroup float t[8 * 12];
  simdgroup_float8x8 left, right, sum = make_filled_simdgroup_matrix<float, 8, 8>(1.0f);
  simdgroup_load(left, a, 8, ulong2(0), true);
  simdgroup_load(right, b, 10, ulong2(2, 0));
  simdgroup_multiply_accumulate(sum, left, right, sum);
  simdgroup_store(sum, t, 12);
  simdgroup_barrier(mem_flags::mem_threadgroup);
  for (uint i = lane; i < 64; i += 32) y[i] = t[i / 8 * 12 + i % 8];
}
kernel void product_of_some(device float* x [[buffer(0)]], uint lane [[thread_index_in_simdgroup]]) {
  simdgroup_float8x8 left, sum = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
  simdgroup_load(left, x);
  if (lane < 16) simdgroup_multiply_accumulate(sum, left, left, sum);
  simdgroup_store(sum, x);
}
kernel void product_beyond(device const float* x [[buffer(0)]], device float* y [[buffer(1)]]) {
  simdgroup_float8x8 left;
  simdgroup_load(left, x, 9);
  simdgroup_store(left, y);
}
kernel void misaligned(device const float* x [[buffer(0)]], device float* y [[buffer(1)]], uint i [[thread_position_in_grid]]) {
  const float4 four = *(device const float4*)(x + 1 + 4 * i);
  y[i] = four[0];
}
kernel void beyond(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) { x[i + 1] = 0.0f; }
"""


pytestmark = pytest.mark.usefixtures("metal_shim")


@pytest.mark.parametrize(("checks", "seed"), [(False, 0), (True, 0), (True, 5)])
def test_what_runs(checks, seed):
    library = compile_shader(SOURCE, checks=checks, seed=seed)
    x, y = torch.randn(50).half(), torch.zeros(50).bfloat16()
    library.halves(x, y, 2.5)
    assert torch.equal(y, (x.float() * 2.5 + torch.tensor([1.0, 2, 3]).repeat(17)[:50]).bfloat16())
    x, y = torch.randn(128), torch.zeros(128)
    library.sums(x, y, threads=[128], group_size=[64])
    torch.testing.assert_close(y, x.view(2, 64).sum(1).repeat_interleave(64))
    y = torch.zeros(20, dtype=torch.int32)
    library.where(y, threads=[10, 2, 1], group_size=[8, 1, 1])  # the last group of a row is smaller
    assert y.tolist() == [*[8] * 8, 2, 2] * 2
    x = torch.arange(64.0)
    library.neighbours(x, threads=[64], group_size=[64])
    assert x.tolist()[:4] == [1, 0, 3, 2]
    a, b, y = torch.randn(8, 8), torch.randn(8, 10), torch.zeros(8, 8)
    library.product(a, b, y, threads=[32], group_size=[32])
    torch.testing.assert_close(y, 1 + a.T @ b[:, 2:])
    if checks:
        assert library.product.accessed == [3 * 256, 2 * 256]


@pytest.mark.parametrize(
    ("kernel", "tensors", "options", "words"),
    [
        ("reverse", [256, 256], {"threads": [256], "group_size": [64]}, "race: writes x, which another thread read"),
        ("strangers", [64], {}, "race: "),
        ("wrong_flag", [64], {}, "race: reads t"),
        ("unwritten", [64], {}, "reads t where no thread of its group has written"),
        ("left_early", [64], {}, "1 of 64 threads of a group ended without reaching the barrier"),
        ("parted", [64], {}, "SIMD operation"),
        ("product_of_some", [64], {"threads": [32]}, "different SIMD operations"),
        ("product_beyond", [64, 64], {"threads": [32]}, "read outside of every buffer"),
        ("misaligned", [40, 4], {"threads": [4]}, "misaligned pointer"),
        ("beyond", [64], {}, "write outside of every buffer: 0 bytes beyond the end of x"),
    ],
)
def test_faults_of_a_kernel_are_found(kernel, tensors, options, words):
    library = compile_shader(SOURCE, checks=True, seed=3)
    arguments = [torch.zeros(count) for count in tensors]
    if kernel == "reverse":
        arguments[1] = 256
    with pytest.raises(MetalFault, match=words):
        getattr(library, kernel)(*arguments, **options)


def test_arguments_that_metal_would_reinterpret_or_refuse():
    library = compile_shader(SOURCE)
    for arguments, words in (
        ((torch.zeros(3), torch.zeros(3).bfloat16(), 2.0), "got a tensor of torch.float32"),
        ((torch.zeros(3).half(), torch.zeros(3).bfloat16(), 2), "got one int"),
        ((torch.zeros(3).half(), torch.zeros(3).bfloat16(), [2.0]), "got a list of float"),
        ((torch.zeros(3).half(), torch.zeros(3).bfloat16()), "has 3 buffers and got 2"),
    ):
        with pytest.raises(MetalFault, match=words):
            library.halves(*arguments)
    with pytest.raises(ValueError, match="exceeds 1024"):
        library.beyond(torch.zeros(4096), group_size=[2048])
    with pytest.raises(MetalFault, match="refuses a launch"):
        library.beyond(torch.zeros(0))


@pytest.mark.parametrize(
    "text",
    [
        "kernel void f(threadgroup float* x [[threadgroup(0)]]) {}",
        "kernel void f(constant float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) { x[i] = 0; }",
        "kernel void f(device float* x [[buffer(0)]], uint2 i [[thread_position_in_grid]], uint n [[threads_per_grid]]) {}",
        "kernel void f(device float* x [[buffer(1)]]) {}",
        "kernel void f(device float* x [[buffer(0)]]) { threadgroup float a = 3; }",
    ],
)
def test_sources_that_do_not_compile(text):
    with pytest.raises(SyntaxError):
        compile_shader("#include <metal_stdlib>\nusing namespace metal;\n" + text)


NUMBERS = {"VALUE": "float", "RESULT": "half", "GRADIENT": "half", "C_OUT": 32, "TAPS": 5, "PADDING": 2, "AFTER": 2}
NUMBERS |= {"KEEP": 1, "MATRICES": 1}
TILES = {"QUADS": 8, "SLOTS": 16, "THREADS": 128}
TILES |= {f"BACK_{name}": number for name, number in TILES.items()} | {"BACK_MATRICES": 0}
FILES = {
    "convolution": NUMBERS | TILES | {"C_IN": 32},
    "weights": NUMBERS | {"C_IN": 32},
    "pooling": {"VALUE": "bfloat", "SIZE": 5, "STRIDE": 2, "KEEP": 1},
    "dense": {"VALUE": "half", "INPUTS": 40, "UNITS": 9, "AFTER": 1},
    "head": {"JOINED": 128, "HIDDEN": 64, "DROPOUT": 1, "EPSILON": "1e-5f"},
    "loss": {},
    "optimizer": {},
}


def complaints(file, change=None):
    """What clang says of a source of the package, with common.metal before it."""
    if reason := typecheck.missing():
        pytest.skip(reason)
    texts = []
    with pytest.raises(RuntimeError):  # nothing is compiled: only its text is wanted
        Library(texts.append).written(source(file, 0, tuple(FILES[file].items())), "nothing", 1)
    if change:
        assert change[0] in texts[0]
        texts[0] = texts[0].replace(*change, 1)
    return typecheck.complaints(texts[0])


@pytest.mark.parametrize("file", FILES)
def test_address_spaces_and_types_of_every_source(file):
    assert not complaints(file)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("convolution", "threadgroup const float* tile, uint width", "thread const float* tile, uint width"),
        (
            "convolution",
            "threadgroup float* tile = (threadgroup float*)memory;",
            "thread float* tile = (thread float*)memory;",
        ),
        ("convolution", "thread simdgroup_float8x8* sums", "threadgroup simdgroup_float8x8* sums"),
        ("dense", "threadgroup float left[32 * 33]", "threadgroup float left[32 * 33] = {0}"),
        ("convolution", "device VALUE* wanted", "device const VALUE* wanted"),
        ("weights", "threadgroup float4* near = scratch;", "device float4* near = scratch;"),
        ("optimizer", "constant long* with", "device const long* with"),
        ("head", "threadgroup float held[4];", "float held[4];"),
    ],
)
def test_wrong_address_spaces_are_found(file, old, new):
    assert complaints(file, (old, new))
