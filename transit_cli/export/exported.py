"""The exported network, all members of a run as one network of named arrays, and its metadata."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from transit_cli.results import plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transit_cli.vetting.ensemble import Ensemble

#: Outputs of the exported network.
OUTPUTS = ("score", "logits")


class Exported(nn.Module):
    """The members of an ensemble as one network.

    Shape: the inputs of `sizes`, in its order, each [B, L] float32 -> score [B], logits [B, M].
    """

    def __init__(self, ensemble: Ensemble) -> None:
        super().__init__()
        self.networks = nn.ModuleList(ensemble.networks)
        self.names = tuple(sizes(ensemble))
        self.eval()

    def forward(self, *arrays: Tensor) -> tuple[Tensor, Tensor]:
        """The mean of the members' probabilities, and each member's logit."""
        inputs = dict(zip(self.names, arrays, strict=True))
        logits = torch.stack([network(inputs) for network in self.networks], dim=1)
        return torch.sigmoid(logits).mean(dim=1), logits


def sizes(ensemble: Ensemble) -> dict[str, int]:
    """The length of each input by name, in order."""
    scalars = len(ensemble.card.scalars)
    return dict(ensemble.card.views) | ({"scalars": scalars} if scalars else {})


def sample(inputs: Mapping[str, int], rows: int) -> tuple[Tensor, ...]:
    """Test inputs [rows, L]: noise, with a box-shaped transit in the middle of each view in every other row."""
    generator = torch.Generator().manual_seed(rows)
    arrays = []
    for name, length in inputs.items():
        values = torch.randn(rows, length, generator=generator) * (1.0 if name == "scalars" else 0.2)
        if name != "scalars":
            values[::2, length * 9 // 20 : length * 11 // 20 + 1] -= 1
        arrays.append(values)
    return tuple(arrays)


def metadata(ensemble: Ensemble) -> str:
    """Metadata of the exported file as JSON: inputs, outputs, how the inputs are made, and the card of the run."""
    card = ensemble.card
    inputs: dict[str, Any] = {
        name: {
            "shape": ["batch", length],
            "type": "float32",
            "made_by": "transit data prepare (docs/data.md): the folded and binned light curve, median 0, minimum -1; "
            "secondary, odd and even views in units of the local view's depth",
        }
        for name, length in card.views.items()
    }
    if card.scalars:
        inputs["scalars"] = {
            "shape": ["batch", len(card.scalars)],
            "type": "float32",
            "made_by": "for each column: x = log10(value) where log, else the value; (x - center) / scale, "
            "clipped to -5 ... 5; 0 for a missing value",
            "columns": [vars(scaling) for scaling in card.scalars],
        }
    outputs = {
        "score": {"shape": ["batch"], "meaning": f"probability of {' or '.join(card.target)}: mean over the members"},
        "logits": {"shape": ["batch", len(ensemble.networks)], "meaning": "log odds by each member"},
    }
    document = {
        "transit_export": 1,
        "inputs": inputs,
        "outputs": outputs,
        "calibration": "none: scores are the networks' own probabilities",
        "trained_on": ensemble.trained_on,
        "views_made_with": ensemble.training_set.recipe if ensemble.training_set else None,
        "card": dataclasses.asdict(card),
    }
    return json.dumps(plain(document))
