"""Logits of networks, as fast as PyTorch computes them on the device.

On a CPU the samples are divided into pieces whose activations stay in a core's cache, each computed in oneDNN's layout
by one thread; pieces and networks are distributed over as many threads as torch has. On other devices larger pieces are
computed one after another, and the device is waited for once, at the end; on MPS Metal kernels are tried.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from transit_cli.model.acceleration import layout

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import nn

    from transit_cli.device.base import Device

#: Samples of a piece on a CPU: 2.1 times faster than 512 at once for the two-branch network, and no worse for AstroNet.
CPU_PIECE = 32
#: Samples of a piece elsewhere; and with fused kernels, which compute fewer in less time than launching them takes: an
#: H100 scored 8,192 samples 3.6 times as fast in pieces of 2,048 as in pieces of 512.
DEVICE_PIECE, FUSED_PIECE = 512, 2048
#: Samples to hand over at once, where reading them all would fill the memory.
CHUNK = 8192


@torch.inference_mode()
def logits(
    networks: Sequence[nn.Module], inputs: Mapping[str, Tensor], device: Device, *, execution: str = "auto"
) -> Tensor:
    """Logits of all samples by each network in evaluation mode: [M, N], or [M, N, C] of classes, float32 on the CPU.

    Args:
        networks: on the device; they are left in the mode in which they were.
        inputs: [N, ...] by name, anywhere.
        device: where to compute.
        execution: that of the training steps, if it was asked for: on MPS, "eager" compiles no kernels.
    """
    modes = [network.training for network in networks]
    for network in networks:
        network.eval()
    try:
        work = _on_cpu if device.kind == "cpu" else partial(_on_device, device=device, execution=execution)
        return work(networks, inputs)
    finally:
        for network, training in zip(networks, modes, strict=True):
            network.train(training)


def _on_cpu(networks: Sequence[nn.Module], inputs: Mapping[str, Tensor]) -> Tensor:
    count = len(next(iter(inputs.values())))
    if count == 0:
        return torch.empty(len(networks), 0)
    found: dict[tuple[int, int], Tensor] = {}

    def compute(job: tuple[int, int]) -> None:
        member, start = job
        part = slice(start, start + CPU_PIECE)
        with torch.inference_mode():  # each thread has its own
            found[job] = networks[member]({name: values[part] for name, values in inputs.items()})

    jobs = [(member, start) for start in range(0, count, CPU_PIECE) for member in range(len(networks))]
    threads = min(torch.get_num_threads(), len(jobs))
    forwards = {module: forward for network in networks for module, forward in layout.blocked(network).items()}
    with layout.replaced(forwards):
        if threads <= 1:
            for job in jobs:
                compute(job)
        else:
            with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                list(pool.map(compute, jobs))
    starts = range(0, count, CPU_PIECE)
    return torch.stack([torch.cat([found[member, start] for start in starts]) for member in range(len(networks))])


def _on_device(
    networks: Sequence[nn.Module], inputs: Mapping[str, Tensor], *, device: Device, execution: str
) -> Tensor:
    count = len(next(iter(inputs.values())))
    found: list[Tensor] = []
    kernels = _kernels(networks) if device.kind == "cuda" and count > DEVICE_PIECE else {}
    piece = FUSED_PIECE if kernels else DEVICE_PIECE
    compute: Callable[[Mapping[str, Tensor]], Tensor] = partial(_each, networks)
    if device.kind == "mps":
        from transit_cli.training.execution.metal_inference import MetalInference

        compute = MetalInference(networks, device, execution)
    with layout.replaced(kernels):
        for start in range(0, count, piece):
            part = {n: values[start : start + piece].to(device.torch_device) for n, values in inputs.items()}
            here = min(piece, count - start)
            if found and here < piece:  # a shape of its own would be compiled on MPS, its graph never given back
                part = {n: torch.cat([v, v[:1].expand(piece - here, -1)]) for n, v in part.items()}
            found.append(compute(part)[:, :here])
    return torch.cat(found, dim=1).cpu() if found else torch.empty(len(networks), 0)


def _each(networks: Sequence[nn.Module], inputs: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([network(inputs).float() for network in networks])


def _kernels(networks: Sequence[nn.Module]) -> dict[nn.Module, Callable[..., Any]]:
    """Fused kernels, where Triton is there to compile them."""
    try:
        from transit_cli.model.acceleration.cuda.fused import fused_forwards
    except ImportError:
        return {}
    return {module: forward for network in networks for module, forward in fused_forwards(network).items()}
