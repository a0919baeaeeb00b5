"""A reading of memory, against what the system says."""

import mmap

from transit_cli.memory.reading import read


def test_a_reading_is_consistent_and_sees_an_allocation():
    before = read()
    assert 0 <= before.available <= before.total
    with mmap.mmap(-1, 64 << 20) as block:  # not from malloc, which may hold as much from before
        block.write(b"1" * len(block))
        assert read().resident - before.resident > 0.9 * len(block)
