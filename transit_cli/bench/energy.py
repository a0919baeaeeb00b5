"""Joules that a piece of work takes, by `zeus` (https://ml.energy/zeus), where the machine lets itself be asked.

What is counted: on CUDA the whole board of the device's GPU; on Apple silicon CPU, GPU, memory and Neural Engine of
the chip; for a CPU otherwise its packages and memory by RAPL, which Linux lets root alone read. Other programs' share
is in it, and so is what the machine takes when idle.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from transit_cli.device.base import Device

#: Parts of an Apple chip that zeus reads, in millijoules; a part that the chip does not tell of is None.
APPLE_PARTS = ("cpu_total_mj", "gpu_mj", "gpu_sram_mj", "dram_mj", "ane_mj")
WINDOW = "transit-bench"


class EnergyUnavailable(Exception):  # noqa: N818 - it is an answer, not a failure
    """Energy cannot be measured here; the text says why."""


class Meter:
    """Measures the energy of pieces of work on a device.

    Raises:
        NoMeter: zeus is not installed, or finds nothing that it can ask.
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
        except Exception as error:  # zeus, its drivers and their permissions fail in ways of their own
            words = str(error).strip().splitlines() or [type(error).__name__]
            raise EnergyUnavailable(f"zeus cannot measure: {words[0]}") from error

    def joules_of(self, work: Callable[[], object]) -> float:
        """Run a piece of work that waits for its device at its end; joules.

        Raises:
            NoMeter: there was nothing to read.
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
        NoMeter: it holds none.
    """
    if kind == "cuda":
        if found.gpu_energy:
            return float(sum(found.gpu_energy.values()))
        raise EnergyUnavailable("zeus finds no NVIDIA GPU that tells its energy")
    if found.soc_energy is not None:
        parts = [getattr(found.soc_energy, name, None) for name in APPLE_PARTS]
        return sum(part for part in parts if part is not None) / 1000
    if kind == "cpu" and found.cpu_energy:
        return float(sum(found.cpu_energy.values()) + sum((found.dram_energy or {}).values()))
    if kind == "mps":
        raise EnergyUnavailable("zeus finds no Apple chip that tells its energy; it needs zeus-apple-silicon")
    raise EnergyUnavailable("zeus finds no counter that this user may read (RAPL of Linux is for root alone)")
