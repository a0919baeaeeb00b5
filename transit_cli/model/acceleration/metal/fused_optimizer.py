"""Clipping and Adam or AdamW in one launch, over parameters and state that lie side by side.

Parameters and the optimizer's state become views into flat buffers; names, shapes and what `state_dict` returns are
those of torch's optimizer, which can go on with them at any step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from transit_cli.model.acceleration.metal.gradients import GROUP, Gradients

if TYPE_CHECKING:
    from transit_cli.model.acceleration.metal.library import Library

#: Torch's names for the state of Adam.
MEAN, SQUARE, STEP = "exp_avg", "exp_avg_sq", "step"
#: How many numbers the kernels are tried with, and how far they may be from PyTorch's, in norm. What is compared is the
#: difference of weights around 1 and 1e-3 apart, which float32 knows to 1e-4.
AGREEING, AGREEMENT = 300, 1e-2


class FlatAdam:
    """Moves parameters as torch's optimizer would.

    Args:
        library: the kernels.
        optimizer: torch's Adam or AdamW of one group of parameters: `suits` says yes to it.
        gradients: those of its parameters.
    """

    def __init__(self, library: Library, optimizer: torch.optim.Optimizer, gradients: Gradients) -> None:
        self._optimizer, self._gradients = optimizer, gradients
        self._kernel = library.kernel("optimizer", "adam", GROUP)
        self._parameters = gradients.parameters
        flat = torch.empty_like(gradients.flat)
        self._values, self._mean, self._square = flat, torch.zeros_like(flat), torch.zeros_like(flat)
        self._steps = flat.new_zeros(len(self._parameters))
        self._taken = 0
        for steps in {int(state[STEP]) for p in self._parameters if (state := optimizer.state.get(p))}:
            self._taken = steps
        self._places: list[int] = []
        self._lay_out()

    def _lay_out(self) -> None:
        """Make parameters and state views into the flat buffers, with the numbers that they have."""
        with torch.no_grad():
            for index, (parameter, values, mean, square) in enumerate(
                zip(self._parameters, *map(self._views, (self._values, self._mean, self._square)), strict=True)
            ):
                state = self._optimizer.state[parameter]
                values.copy_(parameter)
                if state:
                    mean.copy_(state[MEAN])
                    square.copy_(state[SQUARE])
                    self._steps[index] = state[STEP]
                parameter.data = values
                state.update({STEP: self._steps[index], MEAN: mean, SQUARE: square})
        self._places = [parameter.data_ptr() for parameter in self._parameters]

    def _views(self, flat: Tensor) -> list[Tensor]:
        pieces = flat.split([parameter.numel() for parameter in self._parameters])
        return [piece.view_as(parameter) for piece, parameter in zip(pieces, self._parameters, strict=True)]

    @property
    def lies_flat(self) -> bool:
        """Whether the parameters still lie in the flat buffer."""
        return self._places == [parameter.data_ptr() for parameter in self._parameters]

    def step(self, clip: float) -> None:
        """Clip the gradients to this norm (0: not at all), move the parameters by them, and drop them.

        What `gradients` holds must be whole, and its squares those of the last `collect`.
        """
        (group,) = self._optimizer.param_groups
        self._taken += 1
        first, second = group["betas"]
        settings = [
            group["lr"], 1 - first, second, 1 - second, group["eps"], group["weight_decay"],
            1 - first**self._taken, (1 - second**self._taken) ** 0.5, clip, float(_decoupled(self._optimizer)),
        ]  # fmt: skip
        count, squares = self._values.numel(), self._gradients.squares
        self._kernel(
            self._values, self._gradients.flat, self._mean, self._square, squares, self._steps,
            [float(number) for number in settings], count, squares.numel(), self._steps.numel(),
            groups=squares.numel(),
        )  # fmt: skip
        self._optimizer.zero_grad(set_to_none=True)


def suits(optimizer: torch.optim.Optimizer) -> str:
    """Why `FlatAdam` cannot stand for an optimizer; "" where it can."""
    if not isinstance(optimizer, torch.optim.Adam):
        return "its optimizer is neither Adam nor AdamW"
    if len(optimizer.param_groups) != 1:
        return "its optimizer has several groups of parameters"
    (group,) = optimizer.param_groups
    if group["amsgrad"] or group["maximize"] or group["differentiable"] or isinstance(group["lr"], Tensor):
        return "its optimizer has options for which there is no kernel"
    if any(parameter.dtype != torch.float32 for parameter in group["params"]):
        return "its parameters are not float32"
    steps = {float(state[STEP]) if (state := optimizer.state.get(p)) else 0.0 for p in group["params"]}
    if len(steps) > 1:
        return "its parameters have taken different numbers of steps"
    return ""


def agrees(library: Library, optimizer: torch.optim.Optimizer) -> bool:
    """Whether the kernels move some numbers as torch's optimizer with the same settings does, clipped and not.

    It waits for the device.
    """
    (group,) = optimizer.param_groups
    device = group["params"][0].device
    start = torch.linspace(-1, 1, AGREEING, device=device)
    kind: Any = type(optimizer)
    moved: list[Tensor] = []
    for flat in (False, True):
        parameter = torch.nn.Parameter(start.clone())
        options = {name: group[name] for name in ("betas", "eps", "weight_decay")}
        mine = kind([parameter], lr=0.01, **options, fused=True)
        gradients = Gradients(library, [parameter])
        adam = FlatAdam(library, mine, gradients) if flat else None
        for size in (0.01, 3.0):
            parameter.grad = start.flip(0) * size
            gradients.collect()
            if adam:
                adam.step(1.0)
            else:
                torch.nn.utils.clip_grad_norm_([parameter], 1.0, foreach=False)
                mine.step()
                mine.zero_grad(set_to_none=True)
        moved.append(parameter.detach() - start)
    plain, other = moved
    return bool((other - plain).norm() <= AGREEMENT * plain.norm())


def _decoupled(optimizer: torch.optim.Optimizer) -> bool:
    return isinstance(optimizer, torch.optim.AdamW)
