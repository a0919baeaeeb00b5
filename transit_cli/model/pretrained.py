"""The files of the networks that come with transit, trained only on simulated light curves: docs/network_card.md."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from transit_cli.results import TransitError

if TYPE_CHECKING:
    from collections.abc import Mapping

WEIGHTS = Path(__file__).parent / "weights"
#: The default for light curves, which can be folded into views of any length.
DEFAULT = "201-61-secondary" if (WEIGHTS / "201-61-secondary.safetensors").exists() else "201-61"


def files() -> dict[str, Path]:
    """Files of the pretrained networks by name: the lengths of their global and local views, and further views.

    "201-61" takes these two views, "201-61-secondary" the secondary view too.
    """
    return {file.stem: file for file in sorted(WEIGHTS.glob("*.safetensors"))}


def name_for(lengths: Mapping[str, int], fix: str) -> str:
    """The name of the pretrained network for views of these lengths, which uses as many of them as possible.

    Args:
        lengths: the length of each view by name.
        fix: what to do if there is none.

    Raises:
        TransitError: there is none.
    """
    name = f"{lengths.get('global')}-{lengths.get('local')}"
    if lengths.get("secondary") == lengths.get("local") and f"{name}-secondary" in files():
        return f"{name}-secondary"
    if name not in files():
        known = " or ".join(name.replace("-", "/") for name in files() if name.count("-") == 1)
        raise TransitError(
            f"there is no pretrained network for views of {name.replace('-', '/')} bins",
            wanted=f"global/local views of {known} bins, or your own RUN",
            fix=fix,
            code="network-absent",
        )
    return name
