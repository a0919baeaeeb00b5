"""Removes what is personal from text: names of the user and the machine, and paths."""

from __future__ import annotations

import contextlib
import getpass
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: A path from the root, or from the home folder, with at least two parts.
_PATH = re.compile(r"""(?<![\w.:/<])~?(?:/[^\s/'"`|,;:()\[\]<>]+){2,}/?""")
_ADDRESS = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
#: Of a Mac: ten to twelve capitals and digits, of which some are digits.
_SERIAL = re.compile(r"\b(?=[A-Z0-9]*\d)(?=[A-Z0-9]*[A-Z])[A-Z0-9]{10,12}\b")


@dataclass(frozen=True)
class Redactor:
    """Replaces personal words.

    Attributes:
        names: of the user, the home folder and the machine.
    """

    names: tuple[str, ...]

    @classmethod
    def of_this_machine(cls) -> Redactor:
        """For the user and the machine that this process runs as and on."""
        host = socket.gethostname()
        names = {host, host.partition(".")[0], Path.home().name}
        with contextlib.suppress(KeyError, OSError):  # a user without a name
            names.add(getpass.getuser())
        return cls(tuple(sorted(names - {"", "root"}, key=len, reverse=True)))

    def text(self, text: str) -> str:
        """The text without names, paths, addresses and serial numbers."""
        text = _PATH.sub("[path]", text)
        text = _ADDRESS.sub("[address]", text)
        for name in self.names:
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "[name]", text, flags=re.IGNORECASE)
        return _SERIAL.sub("[number]", text)

    def values(self, tree: Any) -> Any:
        """A JSON value with every text in it redacted, keys excepted."""
        if isinstance(tree, str):
            return self.text(tree)
        if isinstance(tree, list):
            return [self.values(item) for item in tree]
        if isinstance(tree, dict):
            return {key: self.values(value) for key, value in tree.items()}
        return tree
