"""Failures that PyTorch's own MPS tests expect, read from the installed torch.

`torch.testing._internal.common_mps` has functions that mark the database's entries as PyTorch's tests do: with an
expected failure or a skip, for certain types or for all, under the entry's full name and variant, and by the version of
macOS. They are called here, on copies. Without MPS they mark nothing.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transit_cli.operators.op_database.row import Part


def known_failures(entries: Sequence[Any], dtype: torch.dtype = torch.float32) -> dict[Part, frozenset[str]]:
    """The entries whose outputs, or gradients, PyTorch does not expect to be right on MPS in a type.

    Args:
        entries: of the operator database.
        dtype: the type that was tested; entries for other types do not count.

    Returns:
        Names with variants, as `database.key_of` makes them.
    """
    try:
        from torch.testing._internal import common_mps
    except ImportError:  # private to torch: an unknown failure is then a new one
        return {"forward": frozenset(), "gradient": frozenset()}
    forward = _marked(common_mps.mps_ops_modifier, entries, dtype)
    # an operator that cannot compute its outputs cannot compute its gradients
    return {"forward": forward, "gradient": forward | _marked(common_mps.mps_ops_grad_modifier, entries, dtype)}


def _marked(modifier: Any, entries: Sequence[Any], dtype: torch.dtype) -> frozenset[str]:
    from transit_cli.operators.op_database.database import key_of

    copies = [copy.copy(entry) for entry in entries]
    for entry in copies:
        entry.decorators = ()
    modifier(copies)
    return frozenset(
        key_of(entry)
        for entry in copies
        if any(mark.dtypes is None or dtype in mark.dtypes for mark in entry.decorators)
    )
