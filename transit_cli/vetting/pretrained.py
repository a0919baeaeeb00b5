"""The networks that come with transit: trained on simulated light curves alone, see docs/network_card.md."""

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
#: The one for a light curve, which can be folded into views of any length.
DEFAULT = "201-61"


def files() -> dict[str, Path]:
    """The networks by the lengths of their global and local views ("201-61")."""
    return {file.stem: file for file in sorted(WEIGHTS.glob("*.safetensors"))}


def open_named(name: str, device: Device) -> Ensemble:
    """The network of that name, on a device."""
    networks, card = saved.load(files()[name])
    placed = tuple(network.to(device.torch_device) for network in networks)
    return Ensemble(f"the network that comes with transit ({name.replace('-', '/')})", placed, card, device)


def for_lengths(lengths: Mapping[str, int], device: Device) -> Ensemble:
    """The network for views of these lengths.

    Raises:
        TransitError: none comes with transit for them.
    """
    name = f"{lengths.get('global')}-{lengths.get('local')}"
    if name not in files():
        known = " or ".join(name.replace("-", "/") for name in files())
        raise TransitError(
            f"no network for views of {name.replace('-', '/')} bins comes with transit",
            wanted=f"global/local views of {known} bins, or a RUN of your own",
            fix="transit train VIEWSET, then give its folder before the view set",
            code="network-absent",
        )
    return open_named(name, device)
