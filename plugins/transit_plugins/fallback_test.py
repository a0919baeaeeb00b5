"""Find operators that MPS lacks, runs on the CPU, or gets wrong.

Without a command, `transit fallback-test` is `transit fallback-test run`, with the options of that command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from transit_cli.command import command
from transit_cli.help import group
from transit_cli.operators.settings import (
    FallbackPredictionSettings,
    FallbackTestSettings,
    OperatorDatabaseSettings,
    OperatorTableSettings,
)

if TYPE_CHECKING:
    from transit_cli.results import Result

app = typer.Typer(cls=group(default="run"), help=__doc__)


@command(app, FallbackTestSettings, name="run")
def run(settings: FallbackTestSettings) -> Result:
    """Compare the operators of a network's training step on this machine with float64.

    Then whole training steps are compared with the CPU. Exits with 1 if an operator is missing, refused or wrong.
    """
    from transit_cli.operators import device_check

    return device_check.check_device(settings)


@command(app, FallbackPredictionSettings, name="predict")
def predict(settings: FallbackPredictionSettings) -> Result:
    """Predict what MPS does with a network's training step, on any machine.

    Exits with 1 if an operator is missing, or MPS refuses a shape or type.
    """
    from transit_cli.operators.prediction import coverage

    return coverage.predict(settings)


@command(app, OperatorTableSettings, name="operators")
def operators(settings: OperatorTableSettings) -> Result:
    """List the operators of a torch version: native, composite, fallback or missing on MPS."""
    from transit_cli.operators.prediction import coverage

    return coverage.operators(settings)


@command(app, OperatorDatabaseSettings, name="all-ops")
def all_ops(settings: OperatorDatabaseSettings) -> Result:
    """Test the operators in torch's own operator database on this machine."""
    from transit_cli.operators.op_database import matrix

    return matrix.check_op_db(settings)
