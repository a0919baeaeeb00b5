"""The table of chips against the guide's hardware table, and against itself."""

import pytest

from transit_cli.device.chips import CHIPS, bandwidth_gb_s


@pytest.mark.parametrize(
    ("name", "cores", "gpu_cores", "bandwidth"),
    [("Apple M4", (4, 6), (10, 10), 120), ("Apple M4 Pro", (10, 4), (16, 20), 273)],
)
def test_the_guides_macs_are_in_the_table(name, cores, gpu_cores, bandwidth):
    chip = CHIPS[name]
    for count, (fewest, most) in zip(cores, (chip.performance_cores, chip.efficiency_cores), strict=True):
        assert fewest <= count <= most
    assert chip.gpu_cores[0] <= gpu_cores[0] <= gpu_cores[1] <= chip.gpu_cores[1]
    assert bandwidth_gb_s(name) == bandwidth


def test_a_variant_with_all_gpu_cores_has_the_higher_bandwidth():
    assert [bandwidth_gb_s("Apple M5 Max", cores) for cores in (32, 40, None)] == [460, 614, 460]
    assert [bandwidth_gb_s(name, 20) for name in ("Apple M4 Pro", "Apple M5 Pro")] == [273, 307]


def test_ranges_are_ranges_and_a_larger_variant_is_no_slower():
    for name, chip in CHIPS.items():
        for fewest, most in (chip.performance_cores, chip.efficiency_cores, chip.gpu_cores):
            assert 0 < fewest <= most, name
        family = " ".join(name.split()[:2])
        assert chip.bandwidth_gb_s >= CHIPS[family].bandwidth_gb_s


def test_an_unknown_chip_has_no_bandwidth():
    assert bandwidth_gb_s("Apple M99") is None
