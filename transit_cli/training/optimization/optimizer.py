"""Adam and AdamW as torch has them, without importing torch.compile's front end for them.

Making or stepping an optimizer imports `torch._dynamo`, only to mark places where a compiler should stop: 850 modules,
sympy among them, which take longer than torch itself. Below the marks are plain functions, which are used here.
The numbers, state and hooks are torch's own; `tests/training/test_optimizer.py` holds them to that.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer


def _unmarked(function: Any) -> Any:
    """The function below a decorator that is there for the compiler; a torch that has none gives itself."""
    return getattr(function, "__wrapped__", function)


class Adam(torch.optim.Adam):
    """`torch.optim.Adam`."""

    add_param_group = _unmarked(Optimizer.add_param_group)
    load_state_dict = _unmarked(Optimizer.load_state_dict)
    state_dict = _unmarked(Optimizer.state_dict)
    zero_grad = _unmarked(Optimizer.zero_grad)
    step = torch.no_grad()(_unmarked(torch.optim.Adam.step))


class AdamW(torch.optim.AdamW):
    """`torch.optim.AdamW`."""

    add_param_group = _unmarked(Optimizer.add_param_group)
    load_state_dict = _unmarked(Optimizer.load_state_dict)
    state_dict = _unmarked(Optimizer.state_dict)
    zero_grad = _unmarked(Optimizer.zero_grad)
    step = torch.no_grad()(_unmarked(torch.optim.AdamW.step))
