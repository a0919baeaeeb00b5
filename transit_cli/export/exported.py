"""The exported network, all members of a run as one network of named arrays, and its metadata."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own convention
from torch import Tensor, nn

from transit_cli.model.calibration import LOWEST
from transit_cli.results import plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transit_cli.vetting.ensemble import Ensemble

#: Outputs of the exported network.
OUTPUTS = ("score", "logits")


class Exported(nn.Module):
    """The members of an ensemble as one network.

    Shape: the inputs of `sizes`, in its order, each [B, L] float32 -> score [B], logits [B, M]; of several
    classes score [B, C], logits [B, M, C].
    """

    def __init__(self, ensemble: Ensemble) -> None:
        super().__init__()
        self.networks = nn.ModuleList(ensemble.networks)
        self.names = tuple(sizes(ensemble))
        self.binary = not ensemble.card.classes
        calibrations = ensemble.calibrations
        calibration = calibrations.overall if calibrations else None
        self.scale = torch.tensor(calibration.scale) if calibration else None
        self.bias = torch.tensor(calibration.bias) if calibration else None
        self.eval()

    def forward(self, *arrays: Tensor) -> tuple[Tensor, Tensor]:
        """The mean of the members' calibrated probabilities, and each member's logits."""
        inputs = dict(zip(self.names, arrays, strict=True))
        logits = torch.stack([network(inputs) for network in self.networks], dim=1)
        if self.scale is None or self.bias is None:
            return (torch.sigmoid(logits) if self.binary else torch.softmax(logits, dim=2)).mean(dim=1), logits
        if not self.binary:
            logarithms = F.log_softmax(logits, dim=2).clamp(min=LOWEST)
            return torch.softmax(logarithms * self.scale + self.bias, dim=2).mean(dim=1), logits
        positive, negative = F.logsigmoid(logits).clamp(min=LOWEST), F.logsigmoid(-logits).clamp(min=LOWEST)
        odds = positive * self.scale[1] + self.bias[1] - negative * self.scale[0] - self.bias[0]
        return torch.sigmoid(odds).mean(dim=1), logits


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
            + (
                "divided by its own depth"
                if name in card.unit_depth
                else "secondary, odd and even views in units of the local view's depth"
            ),
        }
        for name, length in card.views.items()
    }
    if card.scalars:
        inputs["scalars"] = {
            "shape": ["batch", len(card.scalars)],
            "type": "float32",
            "made_by": "for each column: x = log10(value) where log, else the value; (x - center) / scale, "
            "clipped to -5 ... 5; where there are knots, the (i + 1) / (knots + 1) quantiles of a normal distribution "
            "at the knots (equal knots share their mean), linear between, constant beyond; 0 for a missing value",
            "columns": [dataclasses.asdict(scaling) for scaling in card.scalars],
        }
    members = len(ensemble.networks)
    if card.classes:
        meaning = f"probability of each of {', '.join(card.classes)}: mean over the members"
        outputs = {
            "score": {"shape": ["batch", len(card.classes)], "meaning": meaning, "classes": list(card.classes)},
            "logits": {"shape": ["batch", members, len(card.classes)], "meaning": "by each member, not calibrated"},
        }
    else:
        meaning = f"probability of {' or '.join(card.target)}: mean over the members"
        outputs = {
            "score": {"shape": ["batch"], "meaning": meaning},
            "logits": {"shape": ["batch", members], "meaning": "log odds by each member, not calibrated"},
        }
    calibrations = ensemble.calibrations
    calibrated = f"included in score: fitted on {calibrations.signals:,} held-out signals" if calibrations else ""
    document = {
        "transit_export": 1,
        "inputs": inputs,
        "outputs": outputs,
        "calibration": calibrated or "none: scores are the networks' own probabilities",
        "trained_on": ensemble.trained_on,
        "views_made_with": ensemble.training_set.recipe if ensemble.training_set else None,
        "card": dataclasses.asdict(card),
    }
    return json.dumps(plain(document))
