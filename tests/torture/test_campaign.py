"""The campaign against the commands that write and the files that they read: short and seeded in `make test`, long in
`make torture`, which prints a table at the end of each part.

TRANSIT_TORTURE_COUNT scales the long form, TRANSIT_TORTURE_SEED sets its seed.
"""

import os
import random

import pytest

from tests.torture import disks, inputs, kinds, mutation, processes

SCALE, SEED = float(os.environ.get("TRANSIT_TORTURE_COUNT", "1")), int(os.environ.get("TRANSIT_TORTURE_SEED", "1"))
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("campaign")
    return folder, inputs.make(folder)


@pytest.fixture
def mount(tmp_path):
    if not disks.can_mount(tmp_path):
        pytest.skip("mounting needs root")
    return tmp_path / "disk"


def fuzz_all(folder, count, seed):
    """HDF5 is read in a process of its own, which takes a second: few files."""
    for name, kind in kinds.kinds(folder).items():
        few = max(1, count // 20) if name == "views.h5" else count
        yield mutation.fuzz(name, kind, few, random.Random(f"{seed} {name}"))


def test_mutated_files_are_read_or_refused(made):
    inputs.report(fuzz_all(made[0], 5, seed=1))


def test_killed_commands_leave_nothing_torn(made):
    folder, commands = made
    chosen = [command for command in commands if command.name in {"import", "predict"}]
    tallies = [processes.kill(folder, command, 1, random.Random(2)) for command in chosen]
    inputs.report([*tallies, processes.two_at_once(folder, chosen[0], 1)])


@pytest.mark.torture
def test_many_mutated_files(made):
    inputs.report(fuzz_all(made[0], round(2000 * SCALE), SEED))


def times(count):
    return max(1, round(count * SCALE))


@pytest.mark.torture
def test_many_kills(made):
    folder, commands = made
    counts = [(command, 25) for command in commands] + [(command, 2) for command in inputs.long_commands()]
    inputs.report(
        processes.kill(folder, one, times(count), random.Random(f"{SEED} {one.name}")) for one, count in counts
    )


@pytest.mark.torture
def test_two_processes_and_limits(made):
    folder, commands = made
    inputs.report(processes.two_at_once(folder, command, times(3)) for command in commands)
    inputs.report(processes.limited(folder, command, processes.LIMITS) for command in commands)


@pytest.mark.torture
def test_disks(made, mount):
    folder, commands = made
    inputs.report(disks.read_only(folder, command, mount) for command in commands)
    inputs.report(disks.no_inodes(folder, command, mount, range(1, 10, 2)) for command in commands)
    inputs.report(disks.full_disk(folder, command, mount, times(20)) for command in commands)


@pytest.mark.torture
def test_power_cuts(made, mount):
    folder, commands = made
    moments = random.Random(SEED)
    inputs.report(disks.power_cut(folder, command, mount, times(4), moments) for command in commands)
