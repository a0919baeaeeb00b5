"""Checks of the environment: variables, disk, plugins. None of them needs torch."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from transit_cli import discovery
from transit_cli.device import environment
from transit_cli.device.environment import (
    FALLBACK,
    FAST_MATH,
    HIGH_WATERMARK,
    LOW_WATERMARK,
    METAL_VERSION,
    PREFER_METAL,
)
from transit_cli.device.machine import older
from transit_cli.doctor.check import CheckResult
from transit_cli.results import TransitError
from transit_cli.utils import packages

if TYPE_CHECKING:
    from pathlib import Path

    from transit_cli.device.machine import Machine

GIB = 1 << 30


def fallback(machine: Machine) -> CheckResult:
    """Whether an operator that MPS lacks runs on the CPU."""
    on = "on: an operator that MPS lacks runs on the CPU"
    if os.environ.get(FALLBACK) == "0":
        why = "an operator that MPS lacks stops the program"
        return CheckResult("fallback", "warn", "off, by your choice", "on", why, f"unset {FALLBACK}")
    return _variables(machine, "fallback", (FALLBACK,), on)


def watermark(machine: Machine) -> CheckResult:
    """The limits of torch's allocator on MPS."""
    given = [name for name in (HIGH_WATERMARK, LOW_WATERMARK) if name in os.environ]
    well = ", ".join(f"{name} is {os.environ[name]}" for name in given)
    well = well or "not set; transit caps memory itself (--memory-limit)"
    return _variables(machine, "watermark", (HIGH_WATERMARK, LOW_WATERMARK), well)


def fast_math(machine: Machine) -> CheckResult:
    """Whether Metal may round differently."""
    return _variables(machine, "fast-math", (FAST_MATH,), "off")


def prefer_metal(machine: Machine) -> CheckResult:
    """Whether matrix products use torch's own, slower kernels."""
    return _variables(machine, "matmul", (PREFER_METAL,), "off")


def metal_version(machine: Machine) -> CheckResult:
    """The version of Metal that torch uses, by which it uses the primitives that macOS 26.2 gets wrong."""
    problem = _variables(machine, "metal", (METAL_VERSION,), os.environ.get(METAL_VERSION, "macOS's own"))
    if problem.status == "warn" or machine.system != "Darwin" or not machine.torch:
        return problem
    chosen = os.environ.get(METAL_VERSION, "4.0")
    if not older(machine.torch, "2.15") and machine.version.split(".")[:2] == ["26", "2"] and chosen == "4.0":
        why = (
            "Metal Performance Primitives are wrong on macOS 26.2: torch's Conv3d was silently (pytorch issue 197114), "
            "and since 2.15 Conv1d uses them too; 26.3 and later are right"
        )
        found = f"macOS {machine.version} with torch {machine.torch}"
        return CheckResult("metal", "warn", found, "macOS 26.3, or Metal 3.1", why, f"export {METAL_VERSION}=3.1")
    if chosen == "4.0" and METAL_VERSION in os.environ and older(machine.version, "26.0"):
        why = "torch does what is asked, and Metal 4 needs macOS 26: every kernel fails to load"
        return CheckResult("metal", "fail", f"{METAL_VERSION} is 4.0", "macOS 26", why, f"unset {METAL_VERSION}")
    return problem


def _variables(machine: Machine, row_id: str, names: tuple[str, ...], well: str) -> CheckResult:
    for finding in environment.variable_problems(os.environ, environment.late()):
        if finding.variable in names:
            status = "fail" if finding.fatal else "warn"
            return CheckResult(row_id, status, finding.found, finding.wanted, finding.why, finding.fix)
    if machine.system != "Darwin" and not any(name in os.environ for name in names if name != FALLBACK):
        return CheckResult(row_id, "skip", "only MPS reads it")
    return CheckResult(row_id, "ok", well)


def disk(runs: Path) -> CheckResult:
    """Free space where runs are written."""
    folder = next((place for place in (runs.absolute(), *runs.absolute().parents) if place.is_dir()), runs)
    free = shutil.disk_usage(folder).free
    found = f"{free / GIB:.0f} GiB free for {runs}/"
    if free < 10 * GIB:
        status = "fail" if free < GIB else "warn"
        why = "checkpoints of a run take a few hundred MiB, and the system needs free space too"
        return CheckResult("disk", status, found, "10 GiB", why, f"du -sh {runs}/*")
    if not os.access(folder, os.W_OK):
        return CheckResult(
            "disk", "fail", f"{folder} cannot be written to", "a folder of yours", "no run can be saved", "cd ~"
        )
    return CheckResult("disk", "ok", found)


def plugins() -> CheckResult:
    """Whether every installed plugin loads, except transit's own networks, which import torch."""
    broken: list[tuple[discovery.Plugin, TransitError]] = []
    count = 0
    for group in (discovery.COMMANDS, discovery.READERS, discovery.MODELS):
        for plugin in discovery.discover(group).used.values():
            count += 1
            if group == discovery.MODELS and plugin.first_party:
                continue
            try:
                plugin.load()
            except TransitError as error:
                broken.append((plugin, error))
    if broken:
        plugin, error = broken[0]
        names = ", ".join(f"{one.name} of {one.distribution}" for one, _ in broken)
        why = error.found.split("cannot be loaded: ", 1)[-1]
        return CheckResult("plugins", "warn", f"{len(broken)} of {count} broken: {names}", "all load", why, error.fix)
    return CheckResult("plugins", "ok", f"{count} load")


def optional_packages() -> CheckResult:
    """Packages that come with transit, and optional ones that are not installed, with what they are for."""
    broken = packages.absent(packages.NEEDED)
    if broken:
        found = ", ".join(f"{name} ({packages.NEEDED[name]})" for name in broken)
        why = "commands that need them end with an error"
        return CheckResult(
            "packages", "fail", f"missing: {found}", "all there", why, "pip install --upgrade transit-cli"
        )
    optional = packages.absent(packages.OPTIONAL)
    if not optional:
        return CheckResult("packages", "ok", "all there, optional ones too")
    found = ", ".join(f"{name} ({packages.OPTIONAL[name][1]})" for name in optional)
    extras = ",".join(dict.fromkeys(extra for name in optional if (extra := packages.OPTIONAL[name][0])))
    own = [name for name in optional if not packages.OPTIONAL[name][0]]
    install = " ".join(["pip install", *([f'"transit-cli[{extras}]"'] if extras else []), *own])
    return CheckResult("packages", "ok", f"FITS and plots: there; optional, not there: {found}; {install}")
