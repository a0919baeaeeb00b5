"""The machine in numbers and names: system, chip, cores, memory, power, from the commands that every system has.

Everything comes through one function, `run`, from a command line to what it prints; so a machine can be recorded and
replayed where it is not. No command needs root or the network, and one that is missing leaves a fact unknown.
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from transit_cli.device import host

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., str]

#: What is asked of sysctl, at once: it answers what it knows and passes over the rest.
SYSCTL = (
    "machdep.cpu.brand_string",
    "hw.memsize",
    "hw.physicalcpu",
    "hw.nperflevels",
    "hw.perflevel0.physicalcpu",
    "hw.perflevel1.physicalcpu",
    "hw.perflevel0.name",
    "hw.perflevel1.name",
    "sysctl.proc_translated",
    "kern.hv_vmm_present",
    "kern.memorystatus_vm_pressure_level",
    "vm.swapusage",
)


@dataclass(frozen=True)
class Machine:
    """A machine; None and "" where a fact is unknown.

    Attributes:
        system: "Darwin" or "Linux".
        version: of macOS ("15.1") or of the Linux kernel.
        build: of macOS ("24B83"): numbers differ between builds.
        python: version of this Python.
        architecture: what this Python is built for ("arm64", "x86_64").
        torch: version of the installed torch, by its metadata; "" if not installed.
        chip: the processor's name.
        cores: cores that can be used.
        performance_cores: fast ones among them.
        efficiency_cores: slow ones among them.
        core_names: what the system calls the two kinds ("Performance", "Efficiency"; on M5 Pro and Max "Super",
            "Performance"); empty if it does not say.
        gpu_cores: of the Apple GPU.
        memory_bytes: RAM, or the container's limit.
        translated: whether this Python runs under Rosetta.
        virtual: whether macOS runs in a virtual machine.
        pressure_level: macOS's memory pressure: 1 normal, 2 warn, 4 critical.
        swap_used_bytes: swap in use.
        available_bytes: what programs could still take without swapping.
        low_power: whether the low power mode is on.
        on_battery: whether it runs from its battery.
        speed_limit_percent: the processor's speed as limited by heat or power.
    """

    system: str
    version: str
    build: str = ""
    python: str = ""
    architecture: str = ""
    torch: str = ""
    chip: str = ""
    cores: int | None = None
    performance_cores: int | None = None
    efficiency_cores: int | None = None
    core_names: tuple[str, ...] = ()
    gpu_cores: int | None = None
    memory_bytes: int | None = None
    translated: bool = False
    virtual: bool = False
    pressure_level: int | None = None
    swap_used_bytes: int | None = None
    available_bytes: int | None = None
    low_power: bool | None = None
    on_battery: bool | None = None
    speed_limit_percent: int | None = None

    @property
    def apple(self) -> bool:
        """Whether it has an Apple chip, whatever this Python is built for."""
        return self.chip.startswith(("Apple", "VirtualApple"))


def run(*command: str) -> str:
    """What a command prints; "" where it is missing or takes more than ten seconds."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ""


def read(
    run: Run = run, system: str = "", python: str = "", architecture: str = "", torch: str | None = None
) -> Machine:
    """This machine; or, with what `run` and the other arguments say instead, a recorded one."""
    system = system or platform.system()
    found = _mac(run) if system == "Darwin" else _other(system)
    return replace(
        found,
        python=python or platform.python_version(),
        architecture=architecture or platform.machine(),
        torch=installed_torch() if torch is None else torch,
    )


def installed_torch() -> str:
    """The version of the installed torch, by its metadata, without importing it; "" if not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("torch")
    except PackageNotFoundError:
        return ""


def _other(system: str) -> Machine:
    """Linux, which tells everything in files."""
    import psutil

    container = host.container_memory()
    available = psutil.virtual_memory().available
    return Machine(
        system=system,
        version=platform.release(),
        chip=host.processor_name(),
        cores=host.usable_cores(),
        memory_bytes=host.memory_bytes(),
        swap_used_bytes=psutil.swap_memory().used,
        available_bytes=min(available, container.available) if container else available,
    )


def _mac(run: Run) -> Machine:
    known = dict(line.split(": ", 1) for line in run("sysctl", *SYSCTL).splitlines() if ": " in line)
    numbers = {name: int(value) for name, value in known.items() if value.strip().isdigit()}
    software = dict(line.split(":", 1) for line in run("sw_vers").splitlines() if ":" in line)
    chip, gpu_cores = known.get("machdep.cpu.brand_string", ""), None
    translated = numbers.get("sysctl.proc_translated") == 1
    if chip.startswith("Apple") or translated:
        gpu_cores = _gpu_cores(run("ioreg", "-r", "-d", "1", "-w", "0", "-c", "AGXAccelerator"))
        if gpu_cores is None or not chip.startswith("Apple"):  # under Rosetta the chip gives a false name
            model, listed = _display(run("system_profiler", "SPDisplaysDataType", "-json"))
            chip, gpu_cores = model or chip, gpu_cores or listed
    power, heat = run("pmset", "-g"), run("pmset", "-g", "therm")
    low_power = re.search(r"lowpowermode\s+(\d)", power)
    source = re.search(r"drawing from '(\w+) Power'", run("pmset", "-g", "batt"))
    speed = re.search(r"CPU_Speed_Limit\s*=\s*(\d+)", heat)
    return Machine(
        system="Darwin",
        version=software.get("ProductVersion", "").strip(),
        build=software.get("BuildVersion", "").strip(),
        chip=chip,
        cores=numbers.get("hw.physicalcpu"),
        performance_cores=numbers.get("hw.perflevel0.physicalcpu"),
        efficiency_cores=numbers.get("hw.perflevel1.physicalcpu"),
        core_names=tuple(filter(None, (known.get(f"hw.perflevel{level}.name", "").strip() for level in (0, 1)))),
        gpu_cores=gpu_cores,
        memory_bytes=numbers.get("hw.memsize"),
        translated=translated,
        virtual=numbers.get("kern.hv_vmm_present") == 1,
        pressure_level=numbers.get("kern.memorystatus_vm_pressure_level"),
        swap_used_bytes=_swap_used(known.get("vm.swapusage", "")),
        available_bytes=_available(run("vm_stat")),
        low_power=low_power[1] == "1" if low_power else None,
        on_battery=source[1] == "Battery" if source else None,
        speed_limit_percent=int(speed[1]) if speed else None,
    )


def _gpu_cores(text: str) -> int | None:
    """GPU cores in the registry's node of the accelerator."""
    found = re.search(r'"gpu-core-count"\s*=\s*(\d+)', text)
    return int(found[1]) if found else None


def _display(text: str) -> tuple[str, int | None]:
    """The GPU's model and cores by system_profiler, which takes seconds and writes numbers as text."""
    try:
        cards = json.loads(text)["SPDisplaysDataType"]
        card = next(card for card in cards if "sppci_cores" in card)
        return str(card.get("sppci_model", "")), int(card["sppci_cores"])
    except (ValueError, KeyError, TypeError, StopIteration):
        return "", None


def _swap_used(text: str) -> int | None:
    """Bytes in "total = 2048.00M  used = 1024.25M  free = 1023.75M  (encrypted)"."""
    found = re.search(r"used = ([\d.,]+)([KMG])", text)
    if not found:
        return None
    return int(float(found[1].replace(",", ".")) * {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}[found[2]])


def _available(text: str) -> int | None:
    """Bytes that are free or not used lately, by vm_stat's pages."""
    size = re.search(r"page size of (\d+) bytes", text)
    pages = re.findall(r"Pages (?:free|inactive|speculative):\s+(\d+)", text)
    return int(size[1]) * sum(map(int, pages)) if size and pages else None


def least_macos(torch: str) -> str:
    """The oldest macOS on which this torch's MPS allocator starts, by the texts in its wheels."""
    major, minor = (int(part) for part in torch.split(".")[:2])
    return "14.0" if (major, minor) >= (2, 9) else "13.0"


def older(version: str, than: str) -> bool:
    """Whether a dotted version comes before another."""
    return _numbers(version) < _numbers(than)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.partition("+")[0].split(".") if part.isdigit())
