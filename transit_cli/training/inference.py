"""Logits of finished networks, as fast as PyTorch alone gives them on the device.

On a CPU the samples are cut into pieces whose activations stay in a core's cache, each computed channels-last by one
thread; pieces and networks are dealt out to as many threads as torch has. Elsewhere they pass in larger pieces, one
after another.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from transit_cli.model import layout

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from transit_cli.device.base import Device

#: Samples of a piece on a CPU: of 8 to 128, the fastest for the two-branch network, and near it for AstroNet.
CPU_PIECE = 32
#: Samples of a piece on a GPU.
GPU_PIECE = 512


def logits(networks: Sequence[nn.Module], inputs: Mapping[str, Tensor], device: Device) -> Tensor:
    """Logits of all samples by each network, [M, N] float32 on the CPU.

    Args:
        networks: on the device; they are put into evaluation mode.
        inputs: [N, ...] by name, anywhere.
        device: where to compute.
    """
    count = len(next(iter(inputs.values())))
    result = torch.empty(len(networks), count)
    piece = CPU_PIECE if device.kind == "cpu" else GPU_PIECE
    parts = [slice(start, start + piece) for start in range(0, count, piece)]

    @torch.inference_mode()
    def compute(member: int, part: slice) -> None:
        cut = {name: values[part].to(device.torch_device) for name, values in inputs.items()}
        result[member, part] = networks[member](cut).float().cpu()

    for network in networks:
        network.eval()
    jobs = [(member, part) for member in range(len(networks)) for part in parts]
    if device.kind != "cpu":
        for job in jobs:
            compute(*job)
        return result
    forwards = {module: forward for network in networks for module, forward in layout.channels_last(network).items()}
    threads = min(torch.get_num_threads(), len(jobs))
    with layout.replaced(forwards):
        if threads == 1:
            for job in jobs:
                compute(*job)
            return result
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for done in [pool.submit(compute, *job) for job in jobs]:
                done.result()
    return result
