"""What torch declares for MPS: for each operator native, composite, fallback or missing.

    native      MPS has a kernel of its own
    composite   it is made of other operators, whose status counts
    fallback    registered to run on the CPU, with any value of PYTORCH_ENABLE_MPS_FALLBACK
    missing     no kernel: an error, or with PYTORCH_ENABLE_MPS_FALLBACK=1 a run on the CPU

The installed torch is asked through the `native_functions.yaml` that its wheel contains, on Linux as on a Mac. Other
versions come from `operators.tsv`, which `tools/mps_operators.py` makes from the macOS wheels by the same rule, and
checks there against what their libtorch_cpu.dylib registers: nothing is called native that is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from transit_cli.results import ExitCode, TransitError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Status = Literal["native", "composite", "fallback", "missing"]
STATUSES: tuple[Status, ...] = get_args(Status)

#: Registered in C++ (MPSFallback.mm) and not in the yaml, as read in the wheels; the version that dropped it, or None.
#: A third, _slow_conv2d_forward, is registered only to raise an error: it stays "missing".
_ALWAYS_ON_CPU: dict[str, tuple[int, int] | None] = {
    "embedding_renorm_": None,
    "linalg_svd": (2, 14),
    "linalg_svd.U": (2, 14),
}

_COMPOSITE = {
    "CompositeImplicitAutograd",
    "CompositeExplicitAutograd",
    "CompositeExplicitAutogradNonFunctional",
}

SHIPPED = Path(__file__).with_name("operators.tsv")


@dataclass(frozen=True)
class OperatorTable:
    """The operators of one torch.

    Attributes:
        torch: the version they were read in ("2.13.0").
        source: where they were read.
        statuses: status by name with overload ("add.Tensor").
    """

    torch: str
    source: str
    statuses: Mapping[str, Status]


def table(version: str = "") -> OperatorTable:
    """The operators of a torch version ("2.11"), or of the installed one.

    Raises:
        TransitError: it is neither installed nor among those that ship with transit.
    """
    from importlib.metadata import version as installed_version

    here = installed_version("torch").split("+")[0]
    if not version or version == here or version == minor(here):
        path = _installed_yaml()
        if path is not None:
            return OperatorTable(here, "native_functions.yaml of the installed torch", classify(_read(path), here))
    return shipped(version or minor(here))


def minor(version: str) -> str:
    """The first two numbers of a version: operators come and go between these."""
    return ".".join(version.split(".")[:2])


def classify(entries: Iterable[Mapping[str, Any]], version: str) -> dict[str, Status]:
    """The status of each operator that a `native_functions.yaml` declares, and of the variants generated from them.

    Args:
        entries: the yaml's list.
        version: the torch that it belongs to.
    """
    declared = {entry["func"].split("(")[0]: entry for entry in entries}
    found: dict[str, Status] = {}
    for name, entry in declared.items():
        found[name] = _status(declared[entry.get("structured_delegate", name)], entry)
        for generated in filter(None, (part.strip() for part in entry.get("autogen", "").split(","))):
            found.setdefault(generated, "composite")
    numbers = tuple(int(part) for part in version.split(".")[:2])
    for name, dropped in _ALWAYS_ON_CPU.items():
        if name in found and (dropped is None or numbers < dropped):
            found[name] = "fallback"
    return dict(sorted(found.items()))


def _status(target: Mapping[str, Any], entry: Mapping[str, Any]) -> Status:
    """By the entry's own keys, or those of the operator that a structured one delegates to."""
    keys = {key for keys in entry.get("dispatch", ()) for key in keys.replace(",", " ").split()}
    if target is not entry:
        keys |= {key for keys in target.get("dispatch", ()) for key in keys.replace(",", " ").split()}
    if "MPS" in keys:
        return "native"
    return "composite" if not keys or keys & _COMPOSITE else "missing"


def _installed_yaml() -> Path | None:
    from importlib.util import find_spec

    spec = find_spec("torchgen")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "packaged" / "ATen" / "native" / "native_functions.yaml"
    return path if path.exists() else None


def _read(path: Path) -> list[dict[str, Any]]:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's is twenty times faster, where it is there
    return yaml.load(path.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506 - both are safe loaders


def shipped_versions() -> tuple[str, ...]:
    """The versions in `operators.tsv`, in full, oldest first."""
    with SHIPPED.open(encoding="utf-8") as lines:
        header = next(line for line in lines if line.startswith("operator\t"))
    return tuple(header.split()[1:])


def shipped(version: str) -> OperatorTable:
    """The operators of a version ("2.11") by the table that comes with transit.

    Raises:
        TransitError: it is not in the table.
    """
    known = shipped_versions()
    wanted = minor(version)
    column = next((index for index, name in enumerate(known) if wanted == minor(name)), None)
    if column is None:
        raise TransitError(
            f"the operators of torch {version} are not known here",
            wanted=f"the installed version, or one of {', '.join(map(minor, known))}",
            fix=f"give --torch {minor(known[-1])}, the newest known",
            exit_code=ExitCode.USAGE,
            code="torch-unknown",
        )
    letters = {status[0]: status for status in STATUSES}
    statuses = {}
    for line in SHIPPED.read_text(encoding="utf-8").splitlines():
        name, _, row = line.partition("\t")
        if not line.startswith("#") and name != "operator" and row[column] in letters:
            statuses[name] = letters[row[column]]
    return OperatorTable(known[column], "native_functions.yaml of the macOS arm64 wheel", statuses)
