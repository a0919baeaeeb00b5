"""A campaign against the commands that write and the files that they read; each part returns rows of a table."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from transit_cli import config
from transit_cli.data.inspection import info
from transit_cli.data.viewset import ViewSet
from transit_cli.model import saved
from transit_cli.operators.op_database import matrix
from transit_cli.parsing import schema
from transit_cli.results import TransitError
from transit_cli.training.runs import run
from transit_cli.training.settings import TrainSettings

if TYPE_CHECKING:
    import random

TRANSIT = [sys.executable, "-m", "transit_cli"]
#: Files whose content depends on the time or the place.
CHANGING = {"environment.json", "metrics.jsonl", "config.yaml", "metrics.json", "report.html"}


@dataclass
class Tally:
    """What happened to one command or kind of file: outcomes by name, and problems in words."""

    name: str
    outcomes: Counter = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def row(self) -> tuple[str, str, int]:
        return (
            self.name,
            ", ".join(f"{name} {count}" for name, count in sorted(self.outcomes.items())),
            len(self.problems),
        )


def transit(folder: Path, *words: object) -> subprocess.CompletedProcess:
    return subprocess.run([*TRANSIT, *map(str, words)], cwd=folder, capture_output=True, text=True, timeout=300)


def make(folder: Path) -> dict[str, list[str]]:
    """Inputs in `folder` (a set and a run), and the words of each command that writes OUT."""
    assert transit(folder, "data", "simulate", "set", "--tces", "150", "--seed", "1").returncode == 0
    trained = transit(folder, "train", "set", "--out", "run", "--epochs", "1", "--device", "cpu", "--batch-size", "16")
    assert trained.returncode == 0, trained.stderr
    return {
        "simulate": ["data", "simulate", "OUT", "--tces", "60", "--seed", "2"],
        "train": ["train", "set", "--out", "OUT", "--epochs", "3", "--device", "cpu", "--checkpoint-minutes", "0.001"],
        "evaluate": ["evaluate", "run", "--out", "OUT", "--resamples", "20", "--device", "cpu"],
        "predict": ["predict", "run", "set", "--out", "OUT", "--max-plots", "3", "--device", "cpu"],
        "export": ["export", "run", "--to", "torchscript", "--out", "OUT"],
    }


def contents(path: Path) -> dict[str, str]:
    """SHA-256 of each file below a path; checkpoints, whose number depends on the time, are left out."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
        if "checkpoints" not in file.parts
    }


def kill(folder: Path, name: str, words: list[str], count: int, moments: random.Random) -> Tally:
    """Send signals at random moments; every file is then whole or absent, and the command run again gives the same."""
    tally = Tally(name)

    def start(out: str) -> list[str]:
        if name == "train" and (folder / out / "config.yaml").exists():
            return ["train", "--resume", out]
        return [out if word == "OUT" else word for word in words]

    begun = time.monotonic()
    done = transit(folder, *start("whole"))
    lasted = time.monotonic() - begun
    assert done.returncode == 0, done.stderr
    whole = contents(folder / "whole")
    for index in range(count):
        out = f"{name}-{index}"
        number = moments.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGSTOP])
        with subprocess.Popen(
            [*TRANSIT, *start(out)],
            cwd=folder,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            time.sleep(moments.uniform(0.1, lasted * 1.05))
            process.send_signal(number)
            if number == signal.SIGSTOP:
                time.sleep(0.3)
                process.send_signal(signal.SIGCONT)
            stderr = process.communicate(timeout=300)[1]
        code = process.returncode
        tally.outcomes[signal.Signals(number).name] += 1
        expected = {signal.SIGKILL: {-9, 0}, signal.SIGSTOP: {0}}.get(number, {0, 143, -number})
        found = contents(folder / out) if (folder / out).exists() else {}
        torn = [
            file
            for file, digest in found.items()
            if file not in CHANGING and digest != whole.get(Path(file).name, whole.get(file))
        ]
        torn = [file for file in torn if ".transit-part-" not in file]
        if code not in expected or b"Traceback" in stderr:
            tally.problems.append(f"{out}: {signal.Signals(number).name} ended with {code}: {stderr.decode()[-300:]}")
        if torn:
            tally.problems.append(f"{out}: torn after {signal.Signals(number).name}: {torn}")
        complete = name in {"simulate", "export"} and bool(found)
        if complete or (name == "train" and (folder / out / saved.FILE).exists()):
            tally.outcomes["done before"] += 1
        else:
            again = transit(folder, *start(out))
            if again.returncode != 0:
                tally.problems.append(f"{out}: again {again.returncode}: {again.stderr[-300:]}")
        now = contents(folder / out)
        if {f: d for f, d in now.items() if f not in CHANGING} != {f: d for f, d in whole.items() if f not in CHANGING}:
            tally.problems.append(f"{out}: other content after running again: {sorted(set(now) ^ set(whole))}")
        shutil.rmtree(folder / out) if (folder / out).is_dir() else (folder / out).unlink()
    left = [file.name for file in folder.glob(".transit-part-*")]
    if len(left) > count:
        tally.problems.append(f"left: {left}")
    shutil.rmtree(folder / "whole") if (folder / "whole").is_dir() else (folder / "whole").unlink()
    return tally


def mutate(content: bytes, moments: random.Random) -> bytes:
    """Bytes flipped, cut, repeated or removed, or a JSON value removed or of another type."""
    if moments.random() < 0.4:
        try:
            document = json.loads(content)
            place = document
            while isinstance(place, dict) and place:
                key = moments.choice(sorted(place))
                if not isinstance(place[key], dict) or moments.random() < 0.3:
                    place[key] = moments.choice([None, [], {}, "x", "../a", -1, 10**18, 1e308, True, [None], "\0"])
                    if moments.random() < 0.3:
                        del place[key]
                    break
                place = place[key]
            return json.dumps(document).encode()
        except ValueError:
            pass
    data = bytearray(content)
    for _ in range(moments.randint(1, 4)):
        at = moments.randrange(len(data)) if data else 0
        match moments.randrange(4):
            case 0:
                data[at : at + 1] = bytes([moments.randrange(256)])
            case 1:
                del data[at:]
            case 2:
                data[at:at] = data[at : at + moments.randint(1, 40)]
            case 3:
                del data[at : at + moments.randint(1, 40)]
    return bytes(data)


def readers(folder: Path) -> dict[str, tuple[Path, object]]:
    """The file of each kind and the function that reads it."""
    rows = {"add": {"forward": "ok", "gradient": "ok", "samples": 1, "error": 0.0, "message": "", "fell_back": False}}
    (folder / "matrix.json").write_text(json.dumps({"key": {"torch": "2"}, "operators": rows}))
    (folder / "settings.yaml").write_text(config.to_yaml(TrainSettings(), "train"))
    environment = schema.Source("environment.json", "", "", "")
    read_set = lambda: info(ViewSet.open(folder / "set"), check=True)  # noqa: E731
    return {
        "viewset.json": (folder / "set" / "viewset.json", read_set),
        "tces.csv": (folder / "set" / "tces.csv", read_set),
        "npy": (folder / "set" / "local.npy", read_set),
        "environment.json": (
            folder / "run" / "environment.json",
            lambda: schema.read(folder / "run" / "environment.json", run._Environment, environment),
        ),
        "metrics.jsonl": (folder / "run" / "metrics.jsonl", lambda: run.Run(folder / "run").history()),
        "model.safetensors": (folder / "run" / saved.FILE, lambda: saved.load(folder / "run" / saved.FILE)),
        "matrix.json": (folder / "matrix.json", lambda: matrix._read(folder / "matrix.json")),
        "yaml": (folder / "settings.yaml", lambda: config.resolve(TrainSettings, {}, folder / "settings.yaml")),
    }


def fuzz(name: str, file: Path, read, count: int, moments: random.Random) -> Tally:
    """Read mutated files: each gives a value or a `TransitError` within 10 seconds."""
    tally, good = Tally(name), file.read_bytes()
    try:
        for index in range(count):
            file.write_bytes(mutate(good, moments))
            begun = time.monotonic()
            try:
                read()
                tally.outcomes["read"] += 1
            except TransitError as error:
                str(error).encode(errors="strict")
                tally.outcomes["refused"] += 1
            except Exception as error:  # noqa: BLE001 - what is looked for
                place = error.__traceback__
                while place.tb_next:
                    place = place.tb_next
                where = f"{Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}"
                tally.problems.append(f"{name} {index}: {type(error).__name__} at {where}: {error}"[:300])
            if time.monotonic() - begun > 10:
                tally.problems.append(f"{name} {index}: {time.monotonic() - begun:.0f} s")
    finally:
        file.write_bytes(good)
    return tally


def full_disk(folder: Path, name: str, words: list[str], mount: Path, sizes: list[int]) -> Tally:
    """Run a command into a tmpfs of a few sizes: it ends with a message, and again with room."""
    tally = Tally(f"{name}, full disk")
    for size in sizes:
        mount.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", mount], check=True)
        try:
            out = [str(mount / "out") if word == "OUT" else word for word in words]
            done = transit(folder, *out)
            tally.outcomes[f"exit {done.returncode}"] += 1
            if done.returncode not in {0, 5} or "Traceback" in done.stderr:
                tally.problems.append(f"{name} in {size} KiB: {done.returncode}: {done.stderr[-300:]}")
            subprocess.run(["mount", "-o", "remount,size=200m", mount], check=True)
            if done.returncode != 0:
                resumed = name == "train" and (mount / "out" / "config.yaml").exists()
                again = transit(folder, *(["train", "--resume", mount / "out"] if resumed else out))
                if again.returncode != 0:
                    tally.problems.append(f"{name} with room again: {again.returncode}: {again.stderr[-300:]}")
        finally:
            subprocess.run(["umount", mount], check=True)
    return tally


def table(tallies: list[Tally]) -> str:
    """The rows as lines, followed by the problems."""
    rows = [("what", "outcomes", "problems"), *(tally.row() for tally in tallies)]
    lines = [f"{name:<24} {outcomes:<60} {problems}" for name, outcomes, problems in rows]
    return "\n".join(lines + [problem for tally in tallies for problem in tally.problems])


def can_mount(folder: Path) -> bool:
    """Whether this user may mount a tmpfs."""
    if os.getuid() != 0 or not shutil.which("mount"):
        return False
    probe = folder / "probe"
    probe.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", probe], check=False, capture_output=True
    )
    if mounted.returncode == 0:
        subprocess.run(["umount", probe], check=True)
    return mounted.returncode == 0
