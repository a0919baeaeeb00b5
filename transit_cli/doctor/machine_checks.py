"""Checks of the machine: Python, the system, the chip, memory, cores, power. None of them needs torch."""

from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING

from transit_cli.device import chips
from transit_cli.device.machine import least_macos, older
from transit_cli.doctor.check import CheckResult
from transit_cli.memory import pressure
from transit_cli.training.loading.workers import loader_workers

if TYPE_CHECKING:
    from transit_cli.device.machine import Machine

GIB = 1 << 30

MIN_PYTHON = "3.11"


def _memory_listing(machine: Machine) -> str:
    """The command that lists programs by memory."""
    return "top -o mem" if machine.system == "Darwin" else "top -o %MEM"


def python(machine: Machine) -> CheckResult:
    """Python's version, and whether it is built for this processor."""
    found = f"{machine.python}, {machine.architecture}"
    if machine.translated:
        why = "a Python built for Intel has no MPS, and runs everything through Rosetta"
        fix = "/opt/homebrew/bin/brew install python@3.12"
        return CheckResult("python", "fail", f"{found} under Rosetta", "a Python for arm64", why, fix)
    if older(machine.python, MIN_PYTHON):
        why = "transit does not run on it"
        return CheckResult("python", "fail", found, f"{MIN_PYTHON} or later", why, "brew install python@3.12")
    return CheckResult("python", "ok", found)


def system(machine: Machine) -> CheckResult:
    """The operating system, against what the installed torch needs."""
    if machine.system != "Darwin":
        return CheckResult("system", "ok", f"{machine.system} {machine.version}")
    found = f"macOS {machine.version} ({machine.build})"
    if machine.torch and machine.version and older(machine.version, wanted := least_macos(machine.torch)):
        why = f"pip installs torch {machine.torch} here, and MPS then fails at its first allocation"
        older_torch = older(machine.version, "13.0")
        fix = "softwareupdate --list" if older_torch else 'pip install "torch<2.9"'
        return CheckResult("system", "fail", found, f"macOS {wanted} or later for torch {machine.torch}", why, fix)
    if machine.torch and not older(machine.version, "27.0") and older(machine.torch, "2.13"):
        why = "torch before 2.13 computes wrong results on macOS 27 (pytorch issue 187280)"
        return CheckResult("system", "fail", found, "torch 2.13 or later", why, 'pip install --upgrade "torch>=2.13"')
    if machine.virtual:
        why = "a virtual machine reports MPS as available, but tensors may fail or have wrong values"
        return CheckResult(
            "system", "warn", f"{found} in a virtual machine", "macOS on the Mac", why, "transit train --device cpu"
        )
    return CheckResult("system", "ok", found)


def chip(machine: Machine) -> CheckResult:
    """The processor, compared with Apple's specifications."""
    if machine.system == "Darwin" and not machine.apple:
        why = "torch has no packages for Intel Macs since 2.3, and transit needs 2.8"
        return CheckResult("chip", "fail", machine.chip or "unknown", "Apple silicon", why, "")
    words = [machine.chip or "unknown processor"]
    if machine.performance_cores and machine.efficiency_cores:
        fast, slow = (name[0] for name in machine.core_names) if len(machine.core_names) == 2 else ("P", "E")
        words.append(f"{machine.performance_cores}{fast}+{machine.efficiency_cores}{slow} cores")
    elif machine.cores:
        words.append(f"{machine.cores} cores")
    if machine.gpu_cores:
        words.append(f"{machine.gpu_cores} GPU cores")
    bandwidth = chips.bandwidth_gb_s(machine.chip, machine.gpu_cores)
    if bandwidth:
        words.append(f"{bandwidth:g} GB/s")
    elif machine.apple and machine.chip not in chips.CHIPS:
        words.append("bandwidth unknown")
    return CheckResult("chip", "ok", ", ".join(words))


def memory(machine: Machine) -> CheckResult:
    """The memory that CPU and GPU share on a Mac, that the CPU has elsewhere."""
    if not machine.memory_bytes:
        return CheckResult("memory", "skip", "unknown")
    found = f"{machine.memory_bytes / GIB:.0f} GiB"
    if machine.apple:
        found += " unified"
    if machine.available_bytes:
        found += f", {machine.available_bytes / GIB:.1f} available"
    if machine.apple and machine.memory_bytes < 16 * GIB:
        why = "macOS lets the GPU have two thirds of it, and swaps instead of refusing more"
        return CheckResult("memory", "warn", found, "16 GiB; the guide advises 24", why, "transit probe-batch")
    if machine.available_bytes is not None and machine.available_bytes < 2 * GIB:
        return CheckResult("memory", "warn", found, "2 GiB available", "training would swap", _memory_listing(machine))
    return CheckResult("memory", "ok", found)


def memory_pressure(machine: Machine) -> CheckResult:
    """How hard the system works to find memory."""
    mac = machine.system == "Darwin"
    now = pressure.from_apple(machine.pressure_level) if mac else pressure.read()
    if now.level == "unknown":
        return CheckResult("pressure", "skip", now.detail)
    if now.level == "normal":
        return CheckResult("pressure", "ok", f"normal ({now.detail})")
    why = "the system is short of memory before training has begun: close what takes most"
    status = "fail" if now.level == "critical" else "warn"
    return CheckResult("pressure", status, f"{now.level} ({now.detail})", "normal", why, _memory_listing(machine))


def swap(machine: Machine) -> CheckResult:
    """Swap in use: on a Mac, the trace of programs that wanted more than there was."""
    if machine.swap_used_bytes is None or not machine.memory_bytes:
        return CheckResult("swap", "skip", "unknown")
    found = f"{machine.swap_used_bytes / GIB:.1f} GiB in use" if machine.swap_used_bytes else "none in use"
    if machine.swap_used_bytes > machine.memory_bytes / 8:
        why = "more was wanted than there is, and training would wait for the disk: close what takes most"
        return CheckResult(
            "swap", "warn", found, f"less than {machine.memory_bytes / 8 / GIB:.0f} GiB", why, _memory_listing(machine)
        )
    return CheckResult("swap", "ok", found)


def workers(machine: Machine) -> CheckResult:
    """The loader workers of `transit train`, for data that do not fit in memory; data that fit need none."""
    cores = machine.cores or 1
    count = loader_workers(cores, machine.efficiency_cores)
    found = f"{count} for data that stream, none for data in memory"
    if cores < 2:
        return CheckResult("workers", "warn", found, "2 cores", "loading and training take turns", "")
    return CheckResult("workers", "ok", found)


def start_method(machine: Machine) -> CheckResult:
    """How Python starts processes: forking breaks Metal."""
    method = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
    if machine.system == "Darwin" and method == "fork":
        why = "a process that is forked after Metal was used hangs or crashes"
        fix = "python -c \"import multiprocessing; multiprocessing.set_start_method('spawn')\""
        return CheckResult("start-method", "warn", method, "spawn", why, fix)
    return CheckResult("start-method", "ok", method)


def power(machine: Machine) -> CheckResult:
    """Whether heat or low-power mode reduces the speed."""
    told = (machine.low_power, machine.on_battery, machine.speed_limit_percent)
    if all(fact is None for fact in told):
        return CheckResult("power", "skip", f"{machine.system} reports it to root only")
    if machine.speed_limit_percent is not None and machine.speed_limit_percent < 100:
        found = f"heat limits the processor to {machine.speed_limit_percent} %"
        return CheckResult(
            "power", "warn", found, "100 %", "training takes longer, and timings mean little", "pmset -g therm"
        )
    if machine.low_power:
        why = "training takes longer, and timings mean little"
        return CheckResult("power", "warn", "low power mode is on", "off", why, "sudo pmset -a lowpowermode 0")
    if machine.on_battery:
        return CheckResult(
            "power", "warn", "on battery", "mains", "the Mac may sleep or slow down", "caffeinate -i transit train"
        )
    return CheckResult("power", "ok", "mains, no thermal or power limit")
