"""The benchmark table of the guide that this project is based on; its figures have not been verified."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """One column of the guide's benchmark table.

    Attributes:
        train: samples per second.
        infer: samples per second.
        largest_batch: samples.
        bandwidth_share: of the memory bandwidth.
        watts: power.
        samples_per_joule: training samples per second per watt, as given in the guide.
    """

    train: int
    infer: int
    largest_batch: int
    bandwidth_share: float
    watts: int
    samples_per_joule: float


SOURCE = "M4 Mac mini best practices 2024-2025 (November 2024)"
CLAIMS = {
    "M4 16 GB": Claim(2850, 12_500, 64, 0.85, 20, 142.5),
    "M4 Pro 24 GB": Claim(5420, 18_750, 256, 0.92, 35, 154.9),
}
#: The network that the claims are for. The guide gives neither the batch nor the lengths of the views.
NETWORK = "two-branch"
