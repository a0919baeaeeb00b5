"""The network's class probabilities of vetted signals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli.vetting import pretrained
from transit_cli.vetting.ensemble import open_run
from transit_cli.vetting.evaluation import mean_score

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from transit_cli.device.base import Device
    from transit_cli.vetting.ensemble import Ensemble


def open_network(run: Path | None, device: Device, *, trust: bool) -> Ensemble:
    """The network of a run, or the one that comes with transit."""
    return open_run(run, device, trust=trust) if run else pretrained.open_named(pretrained.DEFAULT, device)


def probabilities(
    ensemble: Ensemble, views: Sequence[dict[str, list[float]]], columns: Sequence[dict[str, Any]]
) -> list[dict[str, tuple[float, float]]]:
    """The probability of the target, then of each class, with the ensemble's spread; {} for a signal without views.

    Args:
        ensemble: the network.
        views: of each signal, by name; {} where there are none.
        columns: of each signal, its row of a view set.
    """
    known = [place for place, item in enumerate(views) if item]
    found: list[dict[str, tuple[float, float]]] = [{} for _ in views]
    if not known:
        return found
    arrays = {name: np.array([views[place][name] for place in known], np.float32) for name in ensemble.card.views}
    names = {name for place in known for name in columns[place]}
    tces = {name: np.array([columns[place].get(name, np.nan) for place in known]) for name in names}
    classes = ensemble.probabilities(arrays, tces)
    members = {" or ".join(ensemble.target): ensemble.positive(classes)}
    members |= {name: classes[..., number] for number, name in enumerate(ensemble.card.classes)}
    for name, of_members in members.items():
        for place, value, spread in zip(known, mean_score(of_members), of_members.std(axis=0), strict=True):
            if np.isfinite(value):
                found[place][name] = (float(value), float(spread))
    return found
