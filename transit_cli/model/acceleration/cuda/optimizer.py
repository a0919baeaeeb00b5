"""Clipping and the optimizer's update in two kernels, on the state of a `torch.optim.Adam` or `AdamW`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import triton

from transit_cli.model.acceleration.cuda import optimizer_kernels

if TYPE_CHECKING:
    from torch import Tensor

kernels: Any = optimizer_kernels  # Triton's launch syntax is not typed

#: Values of a chunk, and the most programs that sum the squares.
CHUNK, PROGRAMS = 2048, 1024


class FusedUpdate:
    """Clip and update the parameters of an optimizer, whose state stays its own.

    Made while a graph is captured, when the addresses of the gradients are known; `fill` writes them to the device
    after the capture. Its kernels read them at each replay.

    Args:
        optimizer: `torch.optim.Adam` or `AdamW` with one group, whose learning rate is a tensor on the device, and
            which has taken a step.
        decoupled: whether the weight decay is AdamW's.
        clip: the largest total norm; 0 for any.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, *, decoupled: bool, clip: float) -> None:
        (self._group,) = optimizer.param_groups
        self._optimizer, self._decoupled, self._clip = optimizer, decoupled, clip
        self._parameters: list[Tensor] = self._group["params"]
        device = self._parameters[0].device
        self._chunks = sum(triton.cdiv(parameter.numel(), CHUNK) for parameter in self._parameters)
        self._table = torch.zeros(self._chunks, 6, dtype=torch.int64, device=device)
        self._rows: list[tuple[int, ...]] = []
        self._partial = torch.zeros(min(PROGRAMS, self._chunks), device=device)
        betas = self._group["betas"]
        self._log_betas = torch.tensor([math.log(beta) for beta in betas], dtype=torch.float64).to(device)

    @staticmethod
    def supports(optimizer: torch.optim.Optimizer) -> bool:
        """Whether every parameter and its state have the layout that the kernels read."""
        state = optimizer.state
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        return len(optimizer.param_groups) == 1 and all(
            tensor is not None
            and tensor.dtype == torch.float32
            and tensor.is_contiguous()
            and (tensor.ndim == 0 or tensor.data_ptr() % 16 == 0)
            for parameter in parameters
            for tensor in (parameter, *map(state[parameter].get, ("exp_avg", "exp_avg_sq", "step")))
        )

    def warm_up(self) -> None:
        """Compile the kernels, which cannot be done while a graph is captured, on chunks of no values."""
        spare = torch.ones(4, device=self._table.device)
        address = spare.data_ptr()
        self._table.copy_(torch.tensor([(address,) * 5 + (0,)] * self._chunks, dtype=torch.int64))
        self._queue()

    def launch(self) -> None:
        """Queue both kernels on the gradients in `.grad`, for a graph that runs after `fill`."""
        self._collect()
        self._queue()

    def _collect(self) -> None:
        self._rows = []
        for parameter in self._parameters:
            state, gradient = self._optimizer.state[parameter], parameter.grad
            if gradient is None or not gradient.is_contiguous() or gradient.data_ptr() % 16:
                gradient = self._aligned(parameter)
            tensors = parameter, gradient, state["exp_avg"], state["exp_avg_sq"]
            for first in range(0, parameter.numel(), CHUNK):
                numel = min(CHUNK, parameter.numel() - first)
                addresses = [tensor.data_ptr() + 4 * first for tensor in tensors]
                self._rows.append((*addresses, state["step"].data_ptr(), -numel if first else numel))

    def _aligned(self, parameter: Tensor) -> Tensor:
        """The gradient in a tensor of its own, zeros if there is none."""
        aligned = torch.zeros_like(parameter, memory_format=torch.contiguous_format)
        if parameter.grad is not None:
            aligned.copy_(parameter.grad)
        parameter.grad = aligned
        return aligned

    def _queue(self) -> None:
        programs, (beta1, beta2) = len(self._partial), self._group["betas"]
        kernels.squared_norms[(programs,)](self._table, self._partial, self._chunks, BLOCK=CHUNK)
        kernels.clip_and_update[(self._chunks,)](
            self._table, self._partial, self._group["lr"], self._log_betas, programs,
            float(self._clip), beta1, 1 - beta1, beta2, 1 - beta2,
            self._group["eps"], float(self._group["weight_decay"]),
            CLIP=self._clip > 0, DECOUPLED=self._decoupled, PROGRAMS=triton.next_power_of_2(programs), BLOCK=CHUNK,
        )  # fmt: skip

    def fill(self) -> None:
        """Write the addresses of the last `launch` to the device."""
        self._table.copy_(torch.tensor(self._rows, dtype=torch.int64))
