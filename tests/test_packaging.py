"""What is installed with transit: licences, extras, files."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

#: Licences that an MIT project may require of its users.
PERMISSIVE = re.compile(
    r"\b(MIT|BSD|Apache|PSF|Python Software Foundation|HPND|ISC|0BSD|Zlib|Unlicense|MPL)", re.IGNORECASE
)
COPYLEFT = re.compile(r"(?<!L)GPL|General Public License", re.IGNORECASE)
#: Distributions whose metadata names no licence, read by hand in their sources.
READ_BY_HAND = {"typing-extensions": "PSF-2.0"}


def requirements(name, extras=()):
    """Names of what a distribution requires, markers evaluated."""
    from packaging.requirements import Requirement

    for text in importlib.metadata.requires(name) or ():
        requirement = Requirement(text)
        environments = [{"extra": extra} for extra in ("", *extras)]
        if requirement.marker is None or any(requirement.marker.evaluate(environment) for environment in environments):
            yield requirement.name.lower().replace("_", "-")


def closure(extras=()):
    """Everything that `pip install transit-cli[extras]` brings, as far as it is installed here."""
    found, todo = set(), list(requirements("transit-cli", extras))
    while todo:
        name = todo.pop()
        if name in found or name == "transit-cli":
            continue
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        found.add(name)
        todo += requirements(name)
    return found


def licence(name):
    data = importlib.metadata.metadata(name)
    classifiers = [line for line in data.get_all("Classifier", []) if line.startswith("License ::")]
    text = data.get("License") or ""
    return " ".join([data.get("License-Expression") or "", *classifiers, text[:200]]).strip() or READ_BY_HAND.get(
        name, ""
    )


@pytest.mark.parametrize("name", sorted(closure()))
def test_what_is_required_may_be_used_in_an_mit_project(name):
    text = licence(name)
    assert PERMISSIVE.search(text), f"{name}: {text or 'no licence named'}"
    assert not COPYLEFT.search(text), f"{name}: {text}"


def test_the_base_install_is_small():
    """What few people need is an extra."""
    assert not closure() & {"pandas", "lightkurve", "pydantic", "h5py", "pyarrow", "numba", "dask"}


def test_all_brings_every_extra_but_dev():
    extras = PROJECT["optional-dependencies"]
    (everything,) = extras["all"]
    named = set(re.search(r"\[(.*)\]", everything)[1].split(","))
    assert named == set(extras) - {"all", "dev"}


def test_the_wheel_holds_both_packages_and_no_tests(tmp_path):
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
        "-w",
        tmp_path,
        ROOT,
    ]
    subprocess.run(build, check=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"transit_cli", "transit_plugins"}
    assert wheel.stat().st_size < 8_000_000


def test_versions_agree():
    from transit_cli import __version__

    assert importlib.metadata.version("transit-cli") == __version__
    assert f"version: {__version__}" in (ROOT / "CITATION.cff").read_text()
    assert __version__ in (ROOT / "CHANGELOG.md").read_text()
