"""Recorded machines, replayed: what is read of each, and the table that its owner would see.

The recordings follow the documented formats of the commands; no Mac was at hand. To renew the tables after a change of
their words: UPDATE_SNAPSHOTS=1 pytest tests/doctor/test_machines.py, and read the difference.
"""

import os
from pathlib import Path

import pytest

from transit_cli.device import environment, machine
from transit_cli.device.machine import Machine
from transit_cli.doctor import machine_checks, summary
from transit_cli.doctor.diagnosis import diagnose
from transit_cli.doctor.settings import DoctorSettings
from transit_cli.utils import tables

HERE = Path(__file__).parent
NAMES = sorted(path.stem for path in (HERE / "machines").glob("*.txt"))

#: What does not depend on where the test runs.
ROWS = (
    "python",
    "system",
    "chip",
    "memory",
    "pressure",
    "swap",
    "workers",
    "power",
    "fallback",
    "watermark",
    "metal",
)


def replay(name):
    """A recorded machine: lines about Python and torch, then what each command prints, below a line `$ command`."""
    head, *sections = (HERE / "machines" / f"{name}.txt").read_text().split("$ ")
    given = dict(line.partition(" ")[::2] for line in head.splitlines() if not line.startswith("#"))
    printed = dict(section.partition("\n")[::2] for section in sections)

    def run(*command):
        line = " ".join(command)
        known = [start for start in printed if line == start or line.startswith(f"{start} ")]
        return printed[max(known, key=len)] if known else ""

    return machine.read(run, "Darwin", **given)


@pytest.fixture
def clean(monkeypatch):
    for name in [name for name in os.environ if name.startswith("PYTORCH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv(environment.FALLBACK, "1")
    monkeypatch.setattr(environment, "_late", set())


@pytest.mark.parametrize("name", NAMES)
def test_the_table_of_a_recorded_machine(name, clean):
    rows = diagnose(DoctorSettings(only=ROWS), replay(name))
    shown = tables.plain_table(summary.table(rows))
    advice = summary.advice(rows).text
    text = "\n".join([shown, "", *filter(None, [advice]), summary.verdict(rows, everything=True), ""])
    assert max(map(len, text.splitlines())) <= 80
    snapshot = HERE / "snapshots" / f"{name}.txt"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        snapshot.write_text(text)
    assert text == snapshot.read_text()


def test_there_are_recordings_and_each_has_its_table():
    assert len(NAMES) >= 6
    assert {path.stem for path in (HERE / "snapshots").glob("*.txt")} == set(NAMES)


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("m4_16gb", {"chip": "Apple M4", "performance_cores": 4, "efficiency_cores": 6, "gpu_cores": 10, "version": "15.1", "build": "24B83", "memory_bytes": 16 << 30, "pressure_level": 1, "virtual": False, "low_power": False, "on_battery": False}),
        ("m4_virtual", {"virtual": True, "gpu_cores": None, "performance_cores": None, "cores": 4}),
        ("rosetta", {"translated": True, "chip": "Apple M2 Pro", "gpu_cores": 19, "apple": True, "architecture": "x86_64"}),
        ("intel_mac", {"apple": False, "speed_limit_percent": 62, "gpu_cores": None}),
        ("m3_max_short_of_memory", {"gpu_cores": 30, "swap_used_bytes": int(17203.25 * (1 << 20)), "pressure_level": 4}),
        ("m5_max_macos262", {"core_names": ("Super", "Performance"), "performance_cores": 6, "efficiency_cores": 12, "gpu_cores": 40}),
        ("unknown_chip", {"chip": "Apple M9 Nano", "gpu_cores": 12, "core_names": ()}),
        ("m1_8gb", {"on_battery": True, "available_bytes": 16384 * (30000 + 90000 + 8000)}),
    ],
)  # fmt: skip
def test_facts_of_a_recorded_machine(name, facts):
    read = replay(name)
    assert {key: getattr(read, key) for key in facts} == facts


def test_commands_that_print_nothing_or_nonsense_leave_facts_unknown():
    for text in ("", "\x00nonsense: : =\n{", "hw.memsize: many\nvm.swapusage: used = \n"):
        facts = machine.read(lambda *command, text=text: text, "Darwin", "3.12.0", "arm64", "")
        assert facts.memory_bytes is facts.gpu_cores is facts.swap_used_bytes is None
        rows = diagnose(DoctorSettings(only=ROWS), facts)
        assert [row.id for row in rows] == list(ROWS)
        assert not [row for row in rows if "error of the doctor" in row.why]


def test_a_missing_or_slow_command_prints_nothing():
    assert machine.run("no-such-command-anywhere") == ""


def test_this_machine_is_read():
    here = machine.read()
    assert here.memory_bytes > 0
    assert here.cores >= 1
    assert here.chip


@pytest.mark.parametrize(("cores", "efficiency_cores"), [(10, 6), (8, 4), (12, None), (4, None), (2, 0), (1, None)])
def test_the_doctor_names_the_loader_workers_that_train_starts(monkeypatch, cores, efficiency_cores):
    """An M4 has six efficiency cores."""
    import numpy as np
    import torch

    from transit_cli.device import host
    from transit_cli.training.loading import stream

    started = []
    monkeypatch.setattr(host, "sysctl", lambda name: efficiency_cores)
    monkeypatch.setattr(host, "usable_cores", lambda: cores)
    monkeypatch.setattr(stream, "StreamingLoader", lambda samples, device, workers: started.append(workers))
    samples = stream.OnDiskSamples(Path(), {}, None, torch.zeros(1), np.zeros(1))
    samples.loader(torch.device("cpu"), None)
    row = machine_checks.workers(Machine("Darwin", "15", cores=cores, efficiency_cores=efficiency_cores))
    assert row.found.startswith(f"{started[0]} ")
