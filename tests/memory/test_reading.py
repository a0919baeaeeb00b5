"""A reading of memory, against what the system says."""

import numpy as np

from transit_cli.memory.reading import read


def test_a_reading_is_consistent_and_sees_an_allocation():
    before = read()
    assert 0 <= before.available <= before.total
    assert 0 <= before.used_fraction <= 1
    block = np.ones(64 << 20, dtype=np.uint8)
    assert read().resident - before.resident > 0.9 * block.nbytes
