"""Small inputs of every command that writes, and what the campaign notes about a command."""

from __future__ import annotations

import contextlib
import hashlib
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tests.torture import forked

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

#: Files whose content depends on the time or the place.
CHANGING = {"environment.json", "metrics.jsonl", "config.yaml", "metrics.json", "report.html"}
#: Commands whose output holds measured times: their files must be whole, but differ from run to run.
MEASURING = {"probe-batch", "profile"}
#: Names of what killed processes leave, which the next run removes.
LEFT = (".transit-part-", ".transit-lock", ".work")


@dataclass
class Tally:
    """What happened to one command or kind of file: outcomes by name, and problems."""

    name: str
    outcomes: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Command:
    """A command that writes; OUT among its words is what it writes to."""

    name: str
    words: tuple[str, ...]

    def words_for(self, folder: Path, out: str) -> list[str]:
        """The words that begin or resume the writing of `out`."""
        if self.name == "train" and (folder / out / "config.yaml").exists():
            return ["train", "--resume", out]
        return [out if word == "OUT" else word for word in self.words]

    def start(self, folder: Path, out: str, limits: dict[int, int] | None = None) -> forked.Forked:
        """A process that writes `out`."""
        return forked.transit(folder, *self.words_for(folder, out), limits=limits)

    def is_done(self, folder: Path, out: str) -> bool:
        """Whether the output is complete, so that the command refuses to write it again."""
        if self.name == "train":
            return (folder / out / "model.safetensors").exists()
        return self.name in {"simulate", "import", "export"} and (folder / out).exists()


def report(tallies: Iterable[Tally]) -> None:
    """Print the table, row by row; fail if there is a problem."""
    problems = []
    print(f"\n{'what':<28} {'problems':>8}  outcomes")
    for tally in tallies:
        outcomes = ", ".join(f"{name} {count}" for name, count in sorted(tally.outcomes.items()))
        print("\n".join([f"{tally.name:<28} {len(tally.problems):>8}  {outcomes}", *tally.problems]), flush=True)
        problems += tally.problems
    assert not problems, "\n".join(problems)


def write_light_curves(folder: Path, stars: int = 4) -> None:
    """Light curves with a transit as CSV files, one of them unreadable, and the catalog of their signals."""
    folder.mkdir()
    noise = np.random.default_rng(0)
    rows = ["star,period_days,epoch_days,duration_hours,depth_ppm,label"]
    for star in range(stars):
        time = 1300 + np.arange(0, 12, 1 / 48)
        period = 2.5 + 0.3 * star
        near = np.abs((time - 1301 + period / 2) % period - period / 2) < 0.06
        flux = 1 + 3e-4 * noise.standard_normal(len(time)) - 4e-3 * near
        lines = "".join(f"{t:.5f},{f:.6f}\n" for t, f in zip(time, flux, strict=True))
        (folder / f"tic{100 + star}.csv").write_text("time_btjd,flux\n" + lines)
        rows.append(f"TIC {100 + star},{period},1301,2.9,4000,{'PC' if star % 2 else 'EB'}")
    (folder / f"tic{100 + stars}.csv").write_bytes(b"time_btjd,flux\n\xff\x00\x00")
    rows.append(f"TIC {100 + stars},3,1301,3,4000,J")
    (folder.parent / "catalog.csv").write_text("\n".join(rows) + "\n")


def make(folder: Path) -> list[Command]:
    """Inputs in `folder`, and the commands that write."""
    from tests.training.conftest import write_set

    forked.preload()
    write_light_curves(folder / "curves")
    write_set(folder / "set")
    views = {name: np.load(folder / "set" / f"{name}.npy") for name in ("global", "local")}
    np.savez(folder / "views.npz", **views, kepid=np.arange(len(views["local"])) + 1000)
    train = ["train", "set", "--device", "cpu", "--batch-size", "16"]
    with forked.transit(folder, *train, "--out", "run", "--epochs", "1") as process:
        assert process.wait() == 0, process.output
    return _commands(
        {
            "simulate": [
                "data",
                "simulate",
                "OUT",
                "--tces",
                "12",
                "--seed",
                "2",
                "--mission",
                "tess",
                "--workers",
                "1",
            ],
            "import": ["data", "import", "views.npz", "OUT"],
            "prepare": ["data", "prepare", "catalog.csv", "curves", "OUT", "--bins", "61/31", "--workers", "1"],
            "train": [*train, "--out", "OUT", "--epochs", "3", "--members", "2", "--checkpoint-minutes", "0.0005"],
            "evaluate": ["evaluate", "run", "--out", "OUT", "--resamples", "20", "--device", "cpu", "--no-report"],
            "predict": ["predict", "run", "set", "--out", "OUT", "--max-plots", "1", "--device", "cpu"],
            "export": ["export", "run", "--format", "torchscript", "--out", "OUT"],
            "search": ["search", "curves", "OUT", "--device", "cpu", "--workers", "1", "--max-period", "5"],
        }
    )


def long_commands() -> list[Command]:
    """Commands that take longer: with a report, or with child processes that measure."""
    steps = ["--bins", "64/32", "--batch-size", "4", "--steps", "5", "--growth-steps", "0", "--device", "cpu"]
    return _commands(
        {
            "evaluate --report": ["evaluate", "run", "--out", "OUT", "--resamples", "20", "--device", "cpu"],
            "probe-batch": ["probe-batch", "set", "--device", "cpu", "--only-best", "--write", "OUT"],
            "profile": ["profile", *steps, "--report", "--out", "OUT"],
        }
    )


def _commands(words: dict[str, list[str]]) -> list[Command]:
    return [Command(name, tuple(of)) for name, of in words.items()]


def contents(path: Path) -> dict[str, str]:
    """SHA-256 by name of the files below a path whose bytes do not depend on time and place; {} if it is not there."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {
        str(file.relative_to(path)): _digest(file)
        for file in files
        if "checkpoints" not in file.parts
        and file.name not in CHANGING
        and not any(word in part for part in file.relative_to(path).parts for word in LEFT)
    }


def _digest(file: Path) -> str:
    """SHA-256; of TorchScript without the lines of Python that it was traced from."""
    content = file.read_bytes()
    if content[:2] == b"PK" and file.suffix != ".npz":
        with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(file) as archive:
            names = [
                name for name in sorted(archive.namelist()) if not name.endswith((".debug_pkl", "serialization_id"))
            ]
            content = b"".join(name.encode() + archive.read(name) for name in names)
    return hashlib.sha256(content).hexdigest()


def differing(found: dict[str, str], whole: dict[str, str]) -> list[str]:
    """Files that are not those of an undisturbed run."""
    return [name for name, digest in found.items() if whole.get(name) != digest]
