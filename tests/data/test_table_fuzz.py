"""Mutated catalogs: no error but TransitError, and no accepted row that differs from the truth by a unit or a zero point."""

import os
import random
from pathlib import Path

import numpy as np
import pytest
import table_fuzz

from transit_cli.data.catalogs.catalog import read
from transit_cli.results import TransitError


def differs(tce, signal):
    """What of an accepted row is not the truth."""
    found = {"period": tce.period, "jd": tce.epoch + tce.reference_jd, "hours": tce.duration * 24}
    return {
        name: (value, signal[name])
        for name, value in found.items()
        if not np.isclose(value, signal[name], rtol=1e-6 if name != "jd" else 0, atol=1e-4 if name == "jd" else 1e-6)
    }


def run(seeds, folder):
    """Read one mutated table per seed; the number of rows that were accepted, and of tables that were refused."""
    accepted, refused = 0, 0
    for seed in seeds:
        rng = random.Random(seed)
        signals, mission = table_fuzz.truth(rng, rng.randint(6, 30))
        found = table_fuzz.table(signals, mission, rng)
        for _ in range(rng.randint(0, 3)):
            table_fuzz.mutate(found, rng)
        file = folder / "table.csv"
        file.write_bytes(found.content(rng))
        try:
            tces = read(file, found.mission).tces
        except TransitError as error:
            refused += bool(error.found and error.fix)
            continue
        damaged = {"bytes", "cut"} & set(found.done)  # digits may be gone: no reader can know
        for tce in tces:
            number = tce.signal.partition(".")[0]
            if tce.problem or damaged or not number.isdecimal() or int(number) >= len(signals):
                continue
            assert not differs(tce, signals[int(number)]), (seed, found.done, found.header, tce)
            accepted += 1
    return accepted, refused


def test_two_hundred_mutated_tables(tmp_path):
    accepted, refused = run(range(200), tmp_path)
    assert accepted > 1500
    assert refused > 5


@pytest.mark.torture
def test_ten_thousand_mutated_tables(tmp_path):
    accepted, refused = run(range(1000, 11000), tmp_path)
    assert accepted > 75000
    assert refused > 500


@pytest.mark.torture
def test_mutated_tables_of_the_archive(tmp_path):
    """TRANSIT_FUZZ_CATALOGS names a folder with tables of the archive: their lines, mutated byte by byte, never crash."""
    folder = os.environ.get("TRANSIT_FUZZ_CATALOGS")
    if not folder:
        pytest.skip("TRANSIT_FUZZ_CATALOGS is not set")
    rng = random.Random(0)
    for source in sorted(Path(folder).glob("*.csv")):
        lines = source.read_text().splitlines()
        head = [line for line in lines if line.startswith("#")]
        header, *rows = [line for line in lines if not line.startswith("#")]
        for _ in range(1000):
            text = "\n".join([*head[: rng.choice([0, len(head)])], header, *rng.sample(rows, 20)])
            spoiled = list(text)
            for _ in range(rng.randint(0, 6)):
                spoiled[rng.randrange(len(spoiled))] = rng.choice(',;|\t\n"#\x00\u00e9 .-9')
            (tmp_path / "t.csv").write_text("".join(spoiled))
            try:
                read(tmp_path / "t.csv")
            except TransitError:
                continue
