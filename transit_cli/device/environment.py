"""The environment variables that torch reads while it is imported or when MPS is first used.

`prepare()` is called in one place, `transit_cli.command`, before a command's core is imported and torch with it; and
again by `device.select`, for those who use transit from Python. Child processes inherit what it sets. Standard library
only: torch must not be here yet.

Source of when each variable is read and how its text is parsed: PyTorch's MPSFallback.mm, MPSAllocator.mm,
MPSProfiler.mm, OperationUtils.mm and the strings of its macOS wheels.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transit_cli.results import ExitCode, TransitError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

FALLBACK = "PYTORCH_ENABLE_MPS_FALLBACK"
HIGH_WATERMARK = "PYTORCH_MPS_HIGH_WATERMARK_RATIO"
LOW_WATERMARK = "PYTORCH_MPS_LOW_WATERMARK_RATIO"
FAST_MATH = "PYTORCH_MPS_FAST_MATH"
PREFER_METAL = "PYTORCH_MPS_PREFER_METAL"
METAL_VERSION = "PYTORCH_MPS_METAL_VERSION"

#: What torch 2.15 takes for METAL_VERSION (MPSDevice.mm); below 4.0 it uses no Metal Performance Primitives.
METAL_VERSIONS = ("3.1", "3.2", "4.0")

#: What torch takes for the ratios where they are not set, on a machine with unified memory.
DEFAULT_HIGH, DEFAULT_LOW, LARGEST_HIGH = 1.7, 1.4, 2.0

OMP_WAIT, OMP_SPIN = "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"

#: What `prepare` sets unless the user has: an operator that MPS lacks then runs on the CPU, with a warning; and threads
#: that wait for each other sleep, those of GNU's OpenMP after half a millisecond. Spinning for longer next to a busy
#: process, they made two threads 4 x slower than one; sleeping at once, a step took a quarter longer on quiet cores.
DEFAULTS = {FALLBACK: "1", OMP_WAIT: "PASSIVE", OMP_SPIN: "10000"}

#: Variables that `prepare` would have set, but torch was there first.
_late: set[str] = set()


@dataclass(frozen=True)
class VariableProblem:
    """Something about a variable that its user should know, or has to change.

    Attributes:
        variable: its name.
        fatal: whether torch cannot work with it.
        found: what it is.
        wanted: what it should be.
        why: the consequence.
        fix: a line of shell.
    """

    variable: str
    fatal: bool
    found: str
    wanted: str
    why: str
    fix: str


def prepare() -> None:
    """Set what has to be set before torch is imported, unless the user has set it.

    Raises:
        TransitError: a variable has a value that would break torch.
    """
    for finding in variable_problems(os.environ):
        if finding.fatal:
            raise TransitError(
                finding.found,
                wanted=finding.wanted,
                fix=finding.fix,
                exit_code=ExitCode.MACHINE,
                code="environment",
            )
    for name, value in DEFAULTS.items():
        if name not in os.environ:
            if "torch" in sys.modules:
                _late.add(name)
            else:
                os.environ[name] = value


def late() -> frozenset[str]:
    """Variables that could not be set any more because torch had been imported before."""
    return frozenset(_late)


def variable_problems(environ: Mapping[str, str], late: Collection[str] = ()) -> list[VariableProblem]:
    """What is wrong with the variables in `environ`, the fatal ones first; `late` ones came after torch."""
    found = [*_fallback(environ, late), *_watermarks(environ), *_fast_math(environ), *_metal(environ)]
    return sorted(found, key=lambda finding: not finding.fatal)


def _fallback(environ: Mapping[str, str], late: Collection[str]) -> list[VariableProblem]:
    value = environ.get(FALLBACK)
    if value is not None and not value.strip().isdigit():
        return [
            VariableProblem(
                FALLBACK,
                True,
                f"{FALLBACK} is {value!r}",
                "0 or 1",
                "torch reads a whole number while it is imported, and dies of anything else",
                f"export {FALLBACK}=1",
            )
        ]
    if FALLBACK in late:
        return [
            VariableProblem(
                FALLBACK,
                False,
                f"{FALLBACK} came too late",
                "set before torch is imported",
                "torch reads it while it is imported; an operator that MPS lacks now stops the program",
                f"export {FALLBACK}=1",
            )
        ]
    return []


def _watermarks(environ: Mapping[str, str]) -> list[VariableProblem]:
    given = {name: environ[name] for name in (HIGH_WATERMARK, LOW_WATERMARK) if name in environ}
    ratios: dict[str, float] = {}
    for name, value in given.items():
        try:
            ratios[name] = float(value)
        except ValueError:
            why = "torch reads 0 where it finds no number, and 0 takes the limit away"
            return [VariableProblem(name, True, f"{name} is {value!r}", "a number", why, f"unset {name}")]
    high, low = ratios.get(HIGH_WATERMARK, DEFAULT_HIGH), ratios.get(LOW_WATERMARK, DEFAULT_LOW)
    if not 0 <= high <= LARGEST_HIGH:
        why = "torch refuses it at the first tensor on MPS"
        return [
            VariableProblem(
                HIGH_WATERMARK, True, f"{HIGH_WATERMARK} is {high:g}", "0 to 2", why, f"unset {HIGH_WATERMARK}"
            )
        ]
    if high == 0:
        why = (
            "it takes the last limit away, and the job can drive macOS itself out of memory; "
            "the default of 1.7 is already above what the machine has"
        )
        return [
            VariableProblem(HIGH_WATERMARK, False, f"{HIGH_WATERMARK} is 0", "unset", why, f"unset {HIGH_WATERMARK}")
        ]
    if low > high:
        why = f"torch refuses a low watermark ({low:g}) above the high one ({high:g}) at the first tensor on MPS"
        return [
            VariableProblem(
                LOW_WATERMARK,
                True,
                f"{LOW_WATERMARK} is {low:g}",
                f"at most {high:g}",
                why,
                f"export {LOW_WATERMARK}={high:g}",
            )
        ]
    return []


def _fast_math(environ: Mapping[str, str]) -> list[VariableProblem]:
    value = environ.get(FAST_MATH, "0")
    if value == "0":
        return []
    why = "any value but 0 allows Metal to round differently, also an empty one"
    return [VariableProblem(FAST_MATH, False, f"{FAST_MATH} is {value!r}", "0 or unset", why, f"unset {FAST_MATH}")]


def _metal(environ: Mapping[str, str]) -> list[VariableProblem]:
    found = []
    if PREFER_METAL in environ:
        why = (
            "matrix products then use torch's own kernels, at 1.1 to 1.4 TFLOPS on an M4 Max where MPSGraph reaches "
            "7.8 to 12 (pytorch issue 198182)"
        )
        found.append(
            VariableProblem(PREFER_METAL, False, f"{PREFER_METAL} is set", "unset", why, f"unset {PREFER_METAL}")
        )
    version = environ.get(METAL_VERSION)
    if version is not None and version not in METAL_VERSIONS:
        why = "torch ignores any other value, with a warning"
        wanted = f"unset, or one of {', '.join(METAL_VERSIONS)}"
        found.append(
            VariableProblem(
                METAL_VERSION, False, f"{METAL_VERSION} is {version!r}", wanted, why, f"unset {METAL_VERSION}"
            )
        )
    return found
