"""Energy of a computation, measured by `zeus` (https://ml.energy/zeus) if the machine has readable counters.

What is counted: on CUDA the whole board of the GPU; on Apple silicon CPU, GPU, memory and Neural Engine of the chip;
for other CPUs the packages and memory by RAPL, which only root may read on Linux. Other programs and idle power are
included.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from transit_cli.device.base import Device

#: Parts of an Apple chip that zeus reads, in millijoules; None for a part without a counter.
APPLE_PARTS = ("cpu_total_mj", "gpu_mj", "gpu_sram_mj", "dram_mj", "ane_mj")
WINDOW = "transit-bench"


class EnergyUnavailable(Exception):  # noqa: N818 - expected on most machines, not an error
    """Energy cannot be measured here; the message is the reason."""


class Meter:
    """Measures the energy of computations on a device.

    Raises:
        EnergyUnavailable: zeus is not installed, or finds no counter.
    """

    def __init__(self, device: Device) -> None:
        if importlib.util.find_spec("zeus") is None:
            raise EnergyUnavailable('zeus is not installed: pip install "transit-cli[energy]"')
        try:
            module = importlib.import_module("zeus.monitor")
            gpus = [device.torch_device.index or 0] if device.kind == "cuda" else []
            # A window shorter than the GPU's own counter ticks would read 0 J; zeus then takes power x time.
            self._monitor = module.ZeusMonitor(gpu_indices=gpus, approx_instant_energy=bool(gpus))
            self._kind = device.kind
            self.joules_of(lambda: None)
        except EnergyUnavailable:
            raise
        except Exception as error:  # zeus, its drivers and their permissions fail in many ways
            words = str(error).strip().splitlines() or [type(error).__name__]
            raise EnergyUnavailable(f"zeus cannot measure: {words[0]}") from error

    def joules_of(self, work: Callable[[], object]) -> float:
        """The joules of a function that synchronizes its device at the end.

        Raises:
            EnergyUnavailable: there was nothing to read.
        """
        self._monitor.begin_window(WINDOW, restart=True)
        try:
            work()
        finally:
            found = self._monitor.end_window(WINDOW)
        return joules(self._kind, found)


def joules(kind: str, found: Any) -> float:
    """The energy of a `zeus.monitor.energy.Measurement` that counts for a kind of device.

    Raises:
        EnergyUnavailable: it contains none.
    """
    if kind == "cuda":
        if found.gpu_energy:
            return float(sum(found.gpu_energy.values()))
        raise EnergyUnavailable("zeus finds no NVIDIA GPU with an energy counter")
    if found.soc_energy is not None:
        parts = [getattr(found.soc_energy, name, None) for name in APPLE_PARTS]
        return sum(part for part in parts if part is not None) / 1000
    if kind == "cpu" and found.cpu_energy:
        return float(sum(found.cpu_energy.values()) + sum((found.dram_energy or {}).values()))
    if kind == "mps":
        raise EnergyUnavailable("zeus finds no Apple chip with energy counters; it needs zeus-apple-silicon")
    raise EnergyUnavailable("zeus finds no counter that this user may read (on Linux only root may read RAPL)")
