"""The pretrained networks as ensembles; see docs/network_card.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transit_cli import console
from transit_cli.model import pretrained, saved
from transit_cli.vetting.ensemble import Ensemble

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transit_cli.device.base import Device

DEFAULT = pretrained.DEFAULT
#: The network that was never measured on real signals: docs/network_card.md.
UNMEASURED = "2001-201"


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
    name = pretrained.name_for(lengths, fix)
    ensemble = open_named(name, device)
    if name == UNMEASURED:
        console.warn(
            f"the network for 2001/201 bins was trained on {ensemble.trained_on}, and not measured on real signals; "
            "the networks for 201/61 bins were, and may disagree: transit data prepare --bins 201/61 --secondary"
        )
    return ensemble
