"""The campaign of `campaign.py`: short and seeded in `make test`, long in `make torture`, with its table at the end.

TRANSIT_TORTURE_KILLS, TRANSIT_TORTURE_FILES and TRANSIT_TORTURE_SEED set kills per command, files per kind and the seed.
"""

import os
import random

import pytest

from tests.torture import campaign

KILLS, FILES = int(os.environ.get("TRANSIT_TORTURE_KILLS", "40")), int(os.environ.get("TRANSIT_TORTURE_FILES", "5000"))
SEED = int(os.environ.get("TRANSIT_TORTURE_SEED", "1"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("campaign")
    return folder, campaign.make(folder)


def report(tallies):
    print("\n" + campaign.table(tallies))
    assert not any(tally.problems for tally in tallies), campaign.table(tallies)


def fuzz_all(folder, count, seed):
    kinds = campaign.readers(folder)
    report([campaign.fuzz(name, *kind, count, random.Random(f"{seed} {name}")) for name, kind in kinds.items()])


@pytest.mark.filterwarnings("ignore")
def test_mutated_files_are_read_or_refused(made):
    fuzz_all(made[0], 40, seed=1)


def test_commands_that_are_killed_leave_nothing_torn(made):
    folder, commands = made
    report(
        [campaign.kill(folder, name, commands[name], 2, random.Random(f"2 {name}")) for name in ("simulate", "predict")]
    )


@pytest.mark.torture
@pytest.mark.filterwarnings("ignore")
def test_many_mutated_files(made):
    fuzz_all(made[0], FILES, SEED)


@pytest.mark.torture
def test_many_kills(made):
    folder, commands = made
    moments = random.Random(SEED)
    report([campaign.kill(folder, name, words, KILLS, moments) for name, words in commands.items()])


@pytest.mark.torture
def test_full_disks(made, tmp_path):
    if not campaign.can_mount(tmp_path):
        pytest.skip("mounting a tmpfs needs root")
    folder, commands = made
    sizes = [4, 16, 64, 256, 1024]
    report([campaign.full_disk(folder, n, words, tmp_path / "small", sizes) for n, words in commands.items()])
