r"""Make transit_cli/operators/operators.tsv from PyTorch's macOS wheels, and check it against what they register.

    pip download torch==2.14.1 --no-deps --only-binary=:all: --python-version 3.11 \
        --platform macosx_14_0_arm64 --platform macosx_11_0_arm64 --dest wheels
    python tools/mps_operators.py wheels/*.whl            # check and write
    python tools/mps_operators.py --check wheels/*.whl    # check only

From each wheel come the declarations (native_functions.yaml), which give the table, and libtorch_cpu.dylib, whose
registrations (tools/macho.py) are the truth. One wheel a minor version; about 80-130 MB each.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from macho import mps_registrations

from transit_cli.operators.registrations import SHIPPED, classify

if TYPE_CHECKING:
    from transit_cli.operators.registrations import Status

HEADER = """\
# Operators of PyTorch on MPS, by version: n native, c composite, f fallback (CPU, always), m missing, - not declared.
# Made by tools/mps_operators.py from the macOS arm64 wheels (native_functions.yaml), and checked against the
# registrations in their libtorch_cpu.dylib. PyTorch is Copyright (c) its contributors, BSD-3-Clause.
"""


def main() -> None:
    """Read the wheels that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    parser.add_argument("wheels", nargs="+", type=Path)
    given = parser.parse_args()
    tables: dict[str, dict[str, Status]] = {}
    false_natives = 0
    for wheel in sorted(given.wheels, key=_version_numbers):
        version = wheel.name.split("-")[1]
        with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory() as folder:
            text = archive.read("torchgen/packaged/ATen/native/native_functions.yaml")
            table = classify(yaml.load(text, Loader=yaml.CSafeLoader), version)
            registered = mps_registrations(Path(archive.extract("torch/lib/libtorch_cpu.dylib", folder)))
        native = {name for name, status in table.items() if status == "native"}
        missing = {name for name, status in table.items() if status == "missing"}
        false_natives += len(native - registered)
        print(
            f"torch {version}: {len(registered)} registered, {len(native)} native, {len(missing)} missing;",
            f"called native and not registered: {sorted(native - registered)};",
            f"called missing and registered: {sorted(missing & registered)};",
            f"registered and not declared: {sorted(registered - set(table))}",
        )
        tables[version] = table
    if not given.check:
        names = sorted(set().union(*tables.values()))
        rows = [f"{name}\t{''.join(t[name][0] if name in t else '-' for t in tables.values())}" for name in names]
        SHIPPED.write_text(HEADER + "\n".join(["operator\t" + " ".join(tables), *rows]) + "\n")
    sys.exit(1 if false_natives else 0)


def _version_numbers(wheel: Path) -> list[int]:
    return [int(part) for part in wheel.name.split("-")[1].split(".")]


if __name__ == "__main__":
    main()
