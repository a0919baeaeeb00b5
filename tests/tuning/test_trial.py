"""Trials as real processes: what a batch can do to one, and how it is told apart."""

import subprocess
import sys
import time

import psutil
import pytest

from transit_cli.device.select import select
from transit_cli.memory import pressure, reading
from transit_cli.memory.monitor import Monitor
from transit_cli.results import TransitError
from transit_cli.tuning import batch_probe
from transit_cli.tuning.batch_search import Verdict
from transit_cli.tuning.settings import ProbeSettings
from transit_cli.tuning.trials import trial, trial_process
from transit_cli.tuning.trials.spec import TrialSpec
from transit_cli.tuning.trials.work import Work

NETWORK = """
import os, signal, time, torch

class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 4)

    def forward(self, values):
        if len(values) >= 16:
            {deed}
        return self.layer(values)

def build():
    return Network()
"""

DEEDS = {
    "nothing": "pass",
    "abort": "print('validateComputeFunctionArguments: failed assertion', flush=True); os.abort()",
    "abort for memory": "os.write(2, b'terminate called: std::bad_alloc\\n'); os.abort()",
    "killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "hang": "time.sleep(1000)",
    "oneDNN": "raise RuntimeError('could not create a primitive')",
    "error": "raise ValueError('expected 4 channels')",
}


@pytest.fixture
def spec(tmp_path):
    def of(deed, size=16, **options):
        path = tmp_path / "my_net.py"
        path.write_text(NETWORK.format(deed=DEEDS[deed]))
        return TrialSpec(size, train={"network": f"{path}:build", "device": "cpu"}, inputs=((8,),), **options)

    return of


def test_a_batch_that_fits(spec):
    ran, machine = trial.run(spec("nothing"), 60)
    assert ran.verdict is Verdict.FITS
    assert ran.steps >= 10
    assert ran.samples_per_second == pytest.approx(16 / ran.seconds_per_step)
    assert 100 << 20 < ran.peak_bytes < ran.limit_bytes == machine.limit_bytes <= reading.read().total
    assert (machine.device, machine.precision) == ("cpu", "fp32")


def test_the_first_kernels_do_not_choose_how_a_batch_runs():
    work = Work(TrialSpec(64, train={"device": "cpu"}, views={"global": 201, "local": 61}), select("cpu"))
    work.start_kernels()
    assert work.execution == ""
    work.step([64])
    assert work.execution


@pytest.mark.parametrize(
    ("deed", "verdict", "words"),
    [
        ("abort", Verdict.CRASHED, "SIGABRT: validateComputeFunctionArguments"),
        ("abort for memory", Verdict.OUT_OF_MEMORY, "std::bad_alloc"),
        ("killed", Verdict.OUT_OF_MEMORY, "killed by the system"),
        ("oneDNN", Verdict.OUT_OF_MEMORY, "could not create a primitive"),
    ],
)
def test_a_batch_that_ends_its_process(spec, deed, verdict, words):
    ran, machine = trial.run(spec(deed), 60)
    assert ran.verdict is verdict
    assert words in ran.detail
    assert machine is not None


def test_the_step_that_captures_is_not_timed():
    """It is the fourth, after three ordinary ones, and takes as long as a hundred others."""

    class Capturing:
        device, taken = select("cpu"), 0

        def step(self, sizes):
            self.taken += 1
            time.sleep(0.2 if self.taken == 4 else 0.001)

    with Monitor() as monitor:
        seconds, steps = trial_process._time(TrialSpec(8, steps=5), Capturing(), monitor, lambda done: None)
    assert steps == 5
    assert seconds < 0.1


@pytest.mark.torture
def test_a_batch_that_hangs(spec):
    started = time.monotonic()
    ran, _ = trial.run(spec("hang"), 15)
    assert ran.verdict is Verdict.TOO_SLOW
    assert ran.detail == "no step within the time limit"
    assert time.monotonic() - started < 20


def test_an_error_that_is_not_about_memory_surfaces(spec):
    with pytest.raises(
        TransitError, match=r"batch 16, and not for want of memory: ValueError: expected 4 channels .*my_net"
    ):
        trial.run(spec("error"), 60)


def test_a_network_that_cannot_be_built_is_told_in_its_own_words(spec, tmp_path):
    asked = TrialSpec(4, train={"network": f"{tmp_path}/none.py:build"}, inputs=((8,),))
    with pytest.raises(TransitError, match="names a file that does not exist"):
        trial.run(asked, 60)


@pytest.mark.skipif(sys.platform != "linux", reason="macOS does not enforce RLIMIT_DATA")
def test_the_limit_is_the_kernels(spec):
    """A batch of 800 MiB under a limit of 600 MiB is refused by the kernel; without the limit it runs."""
    asked = TrialSpec(100, train={"device": "cpu"}, views={"global": 20_001, "local": 201}, limit="600MiB")
    ran, machine = trial.run(asked, 60)
    assert machine.limit_bytes == 600 << 20
    assert ran.verdict in {Verdict.OUT_OF_MEMORY, Verdict.OVER_LIMIT}


def test_a_limit_below_what_torch_alone_takes(spec):
    ran, _ = trial.run(spec("nothing", limit="100MiB"), 60)
    assert ran.verdict is Verdict.OUT_OF_MEMORY
    assert "alone take" in ran.detail


@pytest.mark.torture
def test_a_limit_that_is_too_small_is_told_as_it_was_given():
    with pytest.raises(TransitError, match="alone take") as error:
        batch_probe.find(ProbeSettings(memory_limit="100MiB", device="cpu"))
    assert "below 100MiB" in error.value.wanted
    assert "--memory-limit" in error.value.fix


def test_swap_and_pressure_end_a_trial(spec, monkeypatch):
    frozen = reading.read()
    swaps = iter([0, *[2 << 30] * 1000])
    monkeypatch.setattr(reading, "read", lambda: reading.Reading(1, 1, frozen.total, next(swaps), None))
    ran, _ = trial.run(spec("hang"), 60)
    assert (ran.verdict, ran.detail) == (Verdict.SWAPS, "swap grew by 2.0 GiB")
    monkeypatch.setattr(reading, "read", lambda: frozen)
    levels = iter(["normal", *["critical"] * 1000])
    monkeypatch.setattr(pressure, "read", lambda: pressure.Pressure(next(levels), "macOS level 4"))
    ran, _ = trial.run(spec("hang"), 60)
    assert (ran.verdict, ran.detail) == (Verdict.SWAPS, "memory pressure rose to critical (macOS level 4)")


def test_nobody_is_left_behind(spec, tmp_path):
    """Whoever runs a trial may be killed at any moment: the child goes too."""
    asked = spec("hang")
    script = f"""
from transit_cli.tuning.trials import trial
from transit_cli.tuning.trials.spec import TrialSpec
trial.run(TrialSpec(16, train={asked.train!r}, inputs=((8,),)), 100)
"""
    parent = subprocess.Popen([sys.executable, "-c", script])
    try:
        children = []
        while not children:
            assert parent.poll() is None
            time.sleep(0.1)
            children = psutil.Process(parent.pid).children()
    finally:
        parent.kill()
        parent.wait()
    psutil.wait_procs(children, timeout=20)
    assert not any(child.is_running() for child in children)
