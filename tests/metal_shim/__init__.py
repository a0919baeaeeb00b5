"""Metal sources compiled for the CPU, run and checked, with the call of `torch.mps.compile_shader`; see README.md."""

from tests.metal_shim.compiler import Unavailable, compile_shader
from tests.metal_shim.launch import Library, MetalFault

__all__ = ["Library", "MetalFault", "Unavailable", "compile_shader"]
