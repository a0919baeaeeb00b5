"""The two-branch network with twice the channels and hidden units: whether the guide's sizes limit the accuracy.

transit train VIEWSET --network benchmarks/wide_network.py:build
"""

from collections.abc import Mapping

from transit_cli.model.two_branch import TwoBranch


def build(views: Mapping[str, int], scalars: int = 0, outputs: int = 1) -> TwoBranch:
    """64 channels and 256 hidden units; dropout 0.4."""
    return TwoBranch(views, scalars, width=64, hidden=256, dropout=0.4, outputs=outputs)
