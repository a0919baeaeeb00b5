"""What the shell offers for the values of options and arguments: networks, labels, views, runs and view sets.

Nothing here imports torch or reads a file: folders are recognised by the files in them. Where nothing fits, the shell
offers files.
"""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING

from transit_cli.data.catalogs.vocabulary import LABELS
from transit_cli.discovery import MODELS, discover
from transit_cli.options import VIEWS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from transit_cli.config import Setting

#: The file by which a folder is recognised.
RUN, VIEWSET = "config.yaml", "viewset.json"
#: Entries of a folder that are looked at, so that a folder of light curves does not make the shell wait.
LOOKED_AT = 2000


def completer(setting: Setting) -> Callable[[str], list[str]] | None:
    """A function from the word at the cursor to what may stand there; None if the shell's files are right."""
    by_name: dict[str, Callable[[str], list[str]]] = {
        "network": networks,
        "target": lambda word: listed(word, (*LABELS, "classes")),
        "views": lambda word: listed(word, VIEWS),
        "unit_depth": lambda word: listed(word, VIEWS),
        "resume": lambda word: folders(word, RUN),
        "init": lambda word: [*(["pretrained"] if "pretrained".startswith(word) else []), *folders(word, RUN)],
    }
    by_label: dict[str, Callable[[str], list[str]]] = {
        "RUN": lambda word: folders(word, RUN, VIEWSET),
        "OTHER": lambda word: folders(word, RUN),
        "VIEWSET": lambda word: folders(word, VIEWSET),
        "INPUT": lambda word: folders(word, VIEWSET),
    }
    value = setting.flag.metavar if setting.flag else ""
    found = (
        by_label.get(setting.label) if setting.positional else by_name.get(setting.name) or by_label.get(value or "")
    )
    if found is None:
        return None

    def complete(incomplete: str) -> list[str]:  # Typer finds the parameter by its name
        return found(incomplete)

    return complete


def networks(word: str) -> list[str]:
    """Installed networks, and factories in Python files as `my_net.py:build`."""
    found = [name for name in discover(MODELS).used if name.startswith(word)]
    folder = os.path.dirname(word)  # noqa: PTH120 - "./net" stays as it was typed
    files = [os.path.join(folder, entry.name) for entry in _entries(folder) if entry.name.endswith(".py")]  # noqa: PTH118
    return [*found, *(f"{name}:build" for name in files if word and f"{name}:build".startswith(word))]


def listed(word: str, values: Sequence[str]) -> list[str]:
    """Values for the last part of a list with commas."""
    before, comma, last = word.rpartition(",")
    used = before.split(",")
    return [f"{before}{comma}{value}" for value in values if value.startswith(last) and value not in used]


def folders(word: str, *marks: str) -> list[str]:
    """Folders that begin with a word, or lie in such a folder, and have one of the files `marks`."""
    found: list[str] = []
    for name in _subfolders(os.path.dirname(word)):  # noqa: PTH120
        if not name.startswith(word):
            continue
        inner = [name] if _is(name, marks) else [path for path in _subfolders(name) if _is(path, marks)]
        found += sorted(inner)
    return found


def _is(folder: str, marks: Sequence[str]) -> bool:
    return any(os.path.isfile(os.path.join(folder, mark)) for mark in marks)  # noqa: PTH113, PTH118


def _subfolders(folder: str) -> list[str]:
    names = [entry.name for entry in _entries(folder) if not entry.name.startswith(".") and entry.is_dir()]
    return sorted(os.path.join(folder, name) for name in names)  # noqa: PTH118


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder or ".") as entries:
            yield from islice(entries, LOOKED_AT)
    except OSError:
        return
