"""What clang says of a Metal source as C++ for OpenCL: address spaces and types, which the shim erases."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

TYPES = Path(__file__).with_name("src") / "opencl_types.h"
CLANG = os.environ.get("CLANG", "clang")
#: What OpenCL has and Metal has not.
ABSENT = (
    "__opencl_c_generic_address_space",
    "__opencl_c_device_enqueue",
    "__opencl_c_pipes",
    "__opencl_c_fp64",
    "cl_khr_fp64",
    "__opencl_c_program_scope_global_variables",
)
OPTIONS = [
    *(
        "-x",
        "cl",
        "-cl-std=clc++2021",
        "-target",
        "spir64-unknown-unknown",
        "-fsyntax-only",
        "-nostdinc",
        "-cl-no-stdinc",
    ),
    "-Xclang",
    "-cl-ext=-" + ",-".join(ABSENT),
    *(
        "-Wall",
        "-Wextra",
        "-Wno-unknown-attributes",
        "-Wno-unused-parameter",
        "-Wno-unused-function",
        "-Wno-ignored-attributes",
    ),
]


def missing() -> str:
    """Why sources cannot be checked here; "" where they can."""
    if shutil.which(CLANG) is None:
        return "checking Metal's address spaces needs clang 14 or later (apt install clang)"
    version = re.search(
        r"version (\d+)", subprocess.run([CLANG, "--version"], capture_output=True, text=True, check=True).stdout
    )
    return "" if version and int(version[1]) >= 14 else "this clang is older than 14"


def complaints(source: str) -> list[str]:
    """Warnings and errors, with the lines of the source."""
    text = "#line 1\n" + re.sub(r"#\s*include\s*<metal_\w+>", "", source)
    done = subprocess.run(
        [CLANG, *OPTIONS, f"-include{TYPES}", "-"], input=text, capture_output=True, text=True, check=False
    )
    return [line for line in done.stderr.splitlines() if re.search(r": (warning|error|fatal error): ", line)]
