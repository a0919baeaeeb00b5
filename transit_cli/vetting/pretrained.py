"""The pretrained networks as ensembles; see docs/network_card.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transit_cli.model import pretrained, saved
from transit_cli.vetting.ensemble import Ensemble

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transit_cli.device.base import Device

DEFAULT = pretrained.DEFAULT


def open_named(name: str, device: Device) -> Ensemble:
    """A pretrained network by name, on a device."""
    networks, card = saved.load(pretrained.files()[name])
    placed = tuple(network.to(device.torch_device) for network in networks)
    return Ensemble(f"the pretrained network ({name.replace('-', '/')})", placed, card, device)


def for_lengths(lengths: Mapping[str, int], device: Device) -> Ensemble:
    """The pretrained network for views of these lengths.

    Raises:
        TransitError: there is none.
    """
    fix = "transit train VIEWSET, then give the folder of the run before the view set"
    return open_named(pretrained.name_for(lengths, fix), device)
