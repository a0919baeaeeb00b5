"""The files of a plugin's project, as `string.Template`."""

PYPROJECT = """\
[build-system]
requires = ["setuptools>=75"]
build-backend = "setuptools.build_meta"

[project]
name = "transit-$name"
version = "0.1.0"
description = "A $kind for transit"
requires-python = ">=3.11"
dependencies = ["transit-cli"]

[project.optional-dependencies]
test = ["pytest"]

[project.entry-points."$group"]
$name = "$module:$attribute"

[tool.setuptools]
py-modules = ["$module"]
"""

COMMAND = '''\
"""Say what transit $name does, in one line: `transit --help` shows it."""

from dataclasses import dataclass
from typing import Annotated

import typer

from transit_cli.command import command
from transit_cli.config import Positional, Range, Settings
from transit_cli.results import Result, Table

app = typer.Typer()


@dataclass(frozen=True, kw_only=True)
class PluginSettings(Settings):
    """Options of `transit $name`."""

    depth: Annotated[float, Positional("DEPTH"), Range(0, 1e6, open="left")]
    """Depth of the transit in ppm."""

    star: Annotated[float, Range(0, open="left")] = 1.0
    """Radius of the star in solar radii."""


@command(app, PluginSettings)
def main(settings: PluginSettings) -> Result:
    """Describe the command: `transit $name --help` shows this text."""
    # Import torch, NumPy and other large packages here: the module is imported for --help.
    radius = (settings.depth * 1e-6) ** 0.5 * settings.star * 109.08  # solar radii to Earth's, IAU 2015 B3
    table = Table(("depth (ppm)", "star (Rsun)", "planet (Rearth)"), [(settings.depth, settings.star, f"{radius:.2f}")])
    return Result({"radius_earths": radius}, [table], f"The planet has {radius:.2f} Earth radii.")
'''
COMMAND_TEST = '''\
"""The command as a user types it; install the project first: pip install -e ."""

import json
import subprocess


def test_the_command_answers_in_json():
    done = subprocess.run(["transit", "$name", "84", "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert abs(json.loads(done.stdout)["data"]["radius_earths"] - 1.0) < 0.01


def test_a_depth_of_zero_is_refused():
    done = subprocess.run(["transit", "$name", "0"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "depth" in done.stderr
'''
NETWORK = '''\
"""A network: one branch per view, and a linear layer over their features and the scalars."""

import torch
from torch import nn


class Network(nn.Module):
    """Takes a mapping of views [B, length], with "scalars" [B, S] if there are any; returns one logit per sample."""

    def __init__(self, views: dict[str, int], scalars: int) -> None:
        super().__init__()
        self.branches = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Conv1d(1, 16, 5), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(16, 32, 5), nn.ReLU())
                for name in views
            }
        )
        self.head = nn.Linear(32 * len(views) + scalars, 1)

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        features = [branch(inputs[name].unsqueeze(1)).amax(-1) for name, branch in self.branches.items()]
        if "scalars" in inputs:
            features.append(inputs["scalars"])
        return self.head(torch.cat(features, dim=1))


def build(views: dict[str, int], scalars: int) -> nn.Module:
    """A network for views of these lengths and this number of scalars."""
    return Network(views, scalars)
'''
NETWORK_TEST = '''\
"""The network's shapes and gradients."""

import pytest
import torch
from $module import build


@pytest.mark.parametrize("scalars", [0, 3])
def test_one_finite_logit_per_sample_and_a_gradient_for_every_weight(scalars):
    network = build({"global": 201, "local": 61}, scalars)
    inputs = {"global": torch.randn(4, 201), "local": torch.randn(4, 61)}
    if scalars:
        inputs["scalars"] = torch.randn(4, scalars)
    logits = network(inputs)
    assert logits.numel() == 4
    logits.sum().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in network.parameters())
'''
READER = '''\
"""Read light curves from files *.$name: two columns of text, days (BTJD) and flux."""

from pathlib import Path

import numpy as np

from transit_cli.data.lightcurves.lightcurve import LightCurve


def read(file: Path) -> LightCurve:
    """The light curve of a file; any exception drops the file's signals, with the exception as the reason."""
    time, flux = np.loadtxt(file, unpack=True)
    return LightCurve(
        time,
        flux / np.median(flux),
        star=f"TIC {file.stem}",
        mission="tess",
        reference_jd=2457000.0,  # the time is BJD - 2457000
        source=file.name,
    )
'''
READER_TEST = '''\
"""The reader, on a small file."""

import numpy as np
from $module import read


def test_flux_is_relative_to_its_median_and_the_time_system_is_known(tmp_path):
    file = tmp_path / "123.$name"
    np.savetxt(file, np.column_stack([np.arange(10) / 48, np.full(10, 5.0)]))
    curve = read(file)
    assert curve.star == "TIC 123"
    assert curve.reference_jd == 2457000.0
    assert np.allclose(curve.flux, 1.0)
'''
README = """\
# transit-$name

    pip install -e ".[test]"
    pytest
    $use

`transit plugins` shows whether it loads. What a plugin may rely on: docs/plugins.md of transit.
"""
