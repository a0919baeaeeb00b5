"""Energy by zeus: what counts on which device, and why it is left out elsewhere. A made-up zeus stands in for it."""

import sys
from types import SimpleNamespace

import pytest

from transit_cli.bench import energy, throughput
from transit_cli.bench.energy import EnergyUnavailable, Meter, joules
from transit_cli.device.select import select

ZEUS = """
from types import SimpleNamespace

class ZeusMonitor:
    def __init__(self, gpu_indices=None, cpu_indices=None, approx_instant_energy=False):
        assert gpu_indices == [] and approx_instant_energy is False
        self.open = []

    def begin_window(self, key, sync_execution=True, restart=False):
        self.open.append(key)

    def end_window(self, key, sync_execution=True, cancel=False):
        self.open.remove(key)
        return SimpleNamespace(time=1.0, gpu_energy={{}}, cpu_energy={cpu}, dram_energy=None, soc_energy=None)
"""


@pytest.fixture
def zeus(tmp_path, monkeypatch):
    """Put a package named zeus on the path, whose monitor reads these joules of the CPU."""

    def make(cpu):
        package = tmp_path / "zeus"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "monitor.py").write_text(cpu if "def " in str(cpu) else ZEUS.format(cpu=cpu))
        monkeypatch.syspath_prepend(str(tmp_path))

    yield make
    for name in [name for name in sys.modules if name.split(".")[0] == "zeus"]:
        del sys.modules[name]


def measured(**changes):
    none = {"gpu_energy": {}, "cpu_energy": None, "dram_energy": None, "soc_energy": None}
    return SimpleNamespace(**(none | changes))


APPLE = SimpleNamespace(cpu_total_mj=1500, gpu_mj=3000, gpu_sram_mj=None, dram_mj=400, ane_mj=100, gpu_other_mj=9)


@pytest.mark.parametrize(
    ("kind", "found", "expected"),
    [
        ("cuda", measured(gpu_energy={0: 12.5}, cpu_energy={0: 99.0}), 12.5),
        ("mps", measured(soc_energy=APPLE), 5.0),
        ("cpu", measured(soc_energy=APPLE), 5.0),
        ("cpu", measured(cpu_energy={0: 3.0, 1: 4.0}, dram_energy={0: 0.5}), 7.5),
        ("cpu", measured(cpu_energy={0: 3.0}), 3.0),
    ],
)
def test_what_counts(kind, found, expected):
    assert joules(kind, found) == pytest.approx(expected)


@pytest.mark.parametrize(("kind", "word"), [("cuda", "NVIDIA"), ("mps", "zeus-apple-silicon"), ("cpu", "RAPL")])
def test_nothing_to_read_says_so(kind, word):
    with pytest.raises(EnergyUnavailable, match=word):
        joules(kind, measured())


def test_energy_of_a_figure_is_that_of_one_run(zeus):
    zeus({0: 30.0})
    runs = []
    _, found, each = throughput.timed(
        lambda: runs.append(sum(range(20_000))), select("cpu"), 0.01, Meter(select("cpu"))
    )
    counted = each * (len(runs) - 1 - throughput.WARM_UP)
    assert counted == pytest.approx(30.0)
    assert len(found) >= throughput.MIN_BLOCKS


def test_without_counters_it_is_left_out(zeus):
    zeus(None)
    with pytest.raises(EnergyUnavailable, match="RAPL"):
        Meter(select("cpu"))


def test_a_zeus_that_fails_is_no_reason_to_stop(zeus):
    zeus("def ZeusMonitor(**_):\n    raise OSError('no permission')\n")
    with pytest.raises(EnergyUnavailable, match="zeus cannot measure: no permission"):
        Meter(select("cpu"))


def test_without_zeus_it_names_the_extra(monkeypatch):
    monkeypatch.setattr(energy.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnergyUnavailable, match=r"transit-cli\[energy\]"):
        Meter(select("cpu"))
