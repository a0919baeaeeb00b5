"""The pretrained networks, trained only on simulated light curves; see docs/network_card.md."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from transit_cli.model import saved
from transit_cli.results import TransitError
from transit_cli.vetting.ensemble import Ensemble

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transit_cli.device.base import Device

WEIGHTS = Path(__file__).parent / "weights"
#: The default for light curves, which can be folded into views of any length.
DEFAULT = "201-61"


def files() -> dict[str, Path]:
    """Files of the pretrained networks by the lengths of their global and local views ("201-61")."""
    return {file.stem: file for file in sorted(WEIGHTS.glob("*.safetensors"))}


def open_named(name: str, device: Device) -> Ensemble:
    """A pretrained network by name, on a device."""
    networks, card = saved.load(files()[name])
    placed = tuple(network.to(device.torch_device) for network in networks)
    return Ensemble(f"the pretrained network ({name.replace('-', '/')})", placed, card, device)


def for_lengths(lengths: Mapping[str, int], device: Device) -> Ensemble:
    """The pretrained network for views of these lengths.

    Raises:
        TransitError: there is none.
    """
    name = f"{lengths.get('global')}-{lengths.get('local')}"
    if name not in files():
        known = " or ".join(name.replace("-", "/") for name in files())
        raise TransitError(
            f"there is no pretrained network for views of {name.replace('-', '/')} bins",
            wanted=f"global/local views of {known} bins, or your own RUN",
            fix="transit train VIEWSET, then give the folder of the run before the view set",
            code="network-absent",
        )
    return open_named(name, device)
