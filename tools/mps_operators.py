r"""Add a torch to transit_cli/operators/prediction/operators.tsv, from its macOS wheel.

What the table says is checked against what the wheel registers.

    python tools/mps_operators.py 2.15                  # download the wheel of 2.15 (about 140 MB), check it, add it
    python tools/mps_operators.py --check wheels/*.whl  # wheels that are here; write nothing

From each wheel come the declarations (native_functions.yaml), which give the column of the table, and
libtorch_cpu.dylib, whose registrations (tools/macho.py) are the truth. A version replaces the column of its minor
version; the others stay. Exits with 1 if an operator is called native that the wheel does not register.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from macho import mps_registrations

from transit_cli.operators.prediction.registrations import SHIPPED, classify, minor, shipped, shipped_versions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transit_cli.operators.prediction.registrations import Status

    Column = Mapping[str, Status]

HEADER = """\
# Operators of PyTorch on MPS, by version: n native, c composite, f fallback (CPU, always), m missing, - not declared.
# Made by tools/mps_operators.py from the macOS arm64 wheels (native_functions.yaml), and checked against the
# registrations in their libtorch_cpu.dylib. PyTorch is Copyright (c) its contributors, BSD-3-Clause.
"""


def main() -> None:
    """Read the wheels or versions that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    parser.add_argument("torch", nargs="+", help="a version (2.15), or the path of a macOS arm64 wheel")
    given = parser.parse_args()
    columns: dict[str, Column] = {}
    false_natives = 0
    with tempfile.TemporaryDirectory() as folder:
        for text in given.torch:
            wheel = Path(text) if text.endswith(".whl") else _download(text, Path(folder))
            version, column, wrong = _read(wheel)
            columns[version] = column
            false_natives += wrong
    if not given.check and not false_natives:
        SHIPPED.write_text(_merged(columns))
    sys.exit(1 if false_natives else 0)


def _download(version: str, folder: Path) -> Path:
    """The newest macOS arm64 wheel of a version, by pip."""
    pip = (sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--python-version", "3.11")
    platforms = ("--platform", "macosx_14_0_arm64", "--platform", "macosx_11_0_arm64")  # up to 2.11 tagged macOS 11
    wanted = f"torch=={version}" if version.count(".") > 1 else f"torch=={version}.*"
    subprocess.run((*pip, *platforms, "--dest", str(folder), wanted), check=True)
    return next(folder.glob(f"torch-{version}*.whl"))


def _read(wheel: Path) -> tuple[str, Column, int]:
    """A wheel's version, its column, and how many operators it calls native that are not registered."""
    version = wheel.name.split("-")[1]
    with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory() as folder:
        text = archive.read("torchgen/packaged/ATen/native/native_functions.yaml")
        column = classify(yaml.load(text, Loader=yaml.CSafeLoader), version)
        registered = mps_registrations(Path(archive.extract("torch/lib/libtorch_cpu.dylib", folder)))
    native = {name for name, status in column.items() if status == "native"}
    missing = {name for name, status in column.items() if status == "missing"}
    print(
        f"torch {version}: {len(registered)} registered, {len(native)} native, {len(missing)} missing;",
        f"called native and not registered: {sorted(native - registered)};",
        f"called missing and registered: {sorted(missing & registered)};",
        f"registered and not declared: {sorted(registered - set(column))}",
    )
    return version, column, len(native - registered)


def _merged(new: Mapping[str, Column]) -> str:
    """The table with new columns in the place of those of the same minor versions."""
    kept = [version for version in shipped_versions() if minor(version) not in set(map(minor, new))]
    columns = {version: shipped(version).statuses for version in kept} | dict(new)
    versions = sorted(columns, key=lambda version: [int(part) for part in version.split(".")])
    names = sorted(set().union(*columns.values()))
    rows = ["operator\t" + " ".join(versions)]
    for name in names:
        letters = (columns[version][name][0] if name in columns[version] else "-" for version in versions)
        rows.append(f"{name}\t{''.join(letters)}")
    return HEADER + "\n".join(rows) + "\n"


if __name__ == "__main__":
    main()
