"""Pressure, the monitor and the limit: against written texts, real allocations, and planted readings."""

import mmap
import subprocess
import sys
import time

import pytest
import torch

from transit_cli.device.base import DeviceMemory
from transit_cli.device.select import select
from transit_cli.memory import limit, pressure, reading
from transit_cli.memory.limit import MemoryLimit, impose, limit_bytes
from transit_cli.memory.monitor import Monitor
from transit_cli.memory.reading import Reading
from transit_cli.memory.settings import MemorySettings, parse_size
from transit_cli.results import TransitError

GIB = 1 << 30


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n", "normal"),
        ("some avg10=12.50 avg60=1.00 avg300=0.00 total=9\nfull avg10=3.00 avg60=0.00 avg300=0.00 total=0\n", "warn"),
        (
            "some avg10=80.00 avg60=1.00 avg300=0.00 total=9\nfull avg10=55.00 avg60=0.00 avg300=0.00 total=0\n",
            "critical",
        ),
        ("some avg10=11.00 avg60=1.00 avg300=0.00 total=9\n", "warn"),
        ("", "unknown"),
    ],
)
def test_pressure_stall_texts(text, level):
    assert pressure.from_psi(text).level == level


@pytest.mark.parametrize(
    ("value", "level"), [(1, "normal"), (2, "warn"), (4, "critical"), (3, "unknown"), (None, "unknown")]
)
def test_apple_levels(value, level):
    assert pressure.from_apple(value).level == level


def test_the_monitor_sees_what_has_gone_again():
    with Monitor(select("cpu"), interval=0.01) as monitor:
        before = monitor.peak.resident
        with mmap.mmap(-1, 64 << 20) as block:  # not from malloc, which may hold as much from before
            block.write(b"1" * len(block))
            time.sleep(0.2)
    assert monitor.peak.resident - before > 60 << 20
    assert monitor.peak.samples > 3
    assert monitor.peak.available < reading.read().total


def test_the_monitor_stops_when_the_work_fails():
    monitor = Monitor(interval=0.01)
    with pytest.raises(ValueError, match="work"), monitor:
        raise ValueError("work")
    seen = monitor.peak.samples
    time.sleep(0.05)
    assert monitor.peak.samples == seen


class Capped:
    """A device that only remembers its cap: the real one would limit the test process."""

    held, kind = 0, "mps"

    def cap_memory(self, fraction):
        self.fraction = fraction

    def memory(self):
        return DeviceMemory(self.held, self.held, 16 * GIB)


@pytest.mark.parametrize(
    ("now", "state", "words"),
    [
        (Reading(GIB, 8 * GIB, 16 * GIB, 0, None), "normal", ""),
        (Reading(GIB, 8 * GIB, 16 * GIB, 2 * GIB, None), "normal", "swap has grown by 2.0 GiB"),
        (Reading(GIB, 8 * GIB, 16 * GIB, 0, None), "warn", "memory pressure is warn"),
        (Reading(GIB, 1 * GIB, 16 * GIB, 0, None), "normal", "89% of the usable memory is taken"),
    ],
)
def test_the_limit_says_why_it_is_exceeded(monkeypatch, now, state, words):
    monkeypatch.setattr(limit.sys, "platform", "linux")
    monkeypatch.setattr(reading, "read", lambda: Reading(GIB, 8 * GIB, 16 * GIB, 0, None))
    device = Capped()
    held = MemoryLimit(device, 0.85)
    assert device.fraction == pytest.approx(0.85 * 8 / 16)
    monkeypatch.setattr(reading, "read", lambda: now)
    monkeypatch.setattr(pressure, "read", lambda: pressure.Pressure(state, "planted"))
    assert held.exceeded().startswith(words)
    assert bool(held.exceeded()) is bool(words)


CAPPED = """
import torch
from transit_cli.device.select import select
device = select("cpu")
device.cap_memory(2**31 / device.memory().limit)
kept = torch.ones(2**26)  # 256 MiB: below the cap of 2 GiB
try:
    torch.ones(2**29)
except RuntimeError as error:
    print(device.is_out_of_memory(error))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="macOS does not enforce RLIMIT_DATA")
def test_a_capped_cpu_raises_where_linux_would_kill():
    done = subprocess.run([sys.executable, "-c", CAPPED], capture_output=True, text=True, timeout=100)
    assert (done.stdout.strip(), done.returncode) == ("True", 0), done.stderr


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512MiB", 512 << 20),
        ("4GiB", 4 << 30),
        ("1.5 GB", 3 << 29),
        ("2g", 2 << 30),
        ("4", None),
        ("0.85", None),
        ("GiB", None),
    ],
)
def test_sizes_as_people_write_them(text, size):
    assert parse_size(text) == size


def test_a_limit_that_is_neither_share_nor_size():
    with pytest.raises(TransitError, match="--memory-limit is plenty"):
        MemorySettings(memory_limit="plenty")


@pytest.mark.parametrize("limit", [0.85, 0.5, "4GiB"])
@pytest.mark.parametrize("kind", ["cpu", "mps", "cuda"])
def test_training_and_probing_stay_under_the_same_limit(monkeypatch, kind, limit):
    """With other programs in 40 % of the memory: what a probe has found to fit is not too much for training."""
    monkeypatch.setattr(reading, "read", lambda: Reading(GIB, 8 * GIB, 16 * GIB, 0, None))
    monkeypatch.setattr(pressure, "read", lambda: pressure.Pressure("normal", "planted"))
    probing, training = Capped(), Capped()
    probing.kind = training.kind = kind
    probing.held = training.held = GIB
    in_probe = limit_bytes(probing, limit)
    impose(probing, in_probe)
    held = MemoryLimit(training, limit)
    assert held.bytes == in_probe
    assert probing.fraction == training.fraction
    taken = in_probe - GIB
    training.held = in_probe
    if kind != "cuda":
        monkeypatch.setattr(reading, "read", lambda: Reading(GIB + taken, 8 * GIB - taken, 16 * GIB, 0, None))
    assert held.exceeded() == ""
    training.held = in_probe + 1
    assert held.exceeded()


def test_a_limit_in_bytes_counts_what_this_process_took(monkeypatch):
    monkeypatch.setattr(reading, "read", lambda: Reading(GIB, 1 * GIB, 16 * GIB, 0, None))
    monkeypatch.setattr(pressure, "read", lambda: pressure.Pressure("normal", "planted"))
    device = Capped()
    held = MemoryLimit(device, "4GiB")
    assert device.fraction == 0.25
    assert held.exceeded() == ""
    device.held = 5 * GIB
    assert held.exceeded() == "5120 MiB are taken, and the limit is 4096 MiB"


def test_the_peak_is_this_processs_own():
    before = reading.peak_resident()
    block = torch.ones(16 << 20)  # 64 MiB
    del block
    after = reading.peak_resident()
    assert after >= reading.read().resident
    assert after - before < 70 << 20
    assert after >= before
