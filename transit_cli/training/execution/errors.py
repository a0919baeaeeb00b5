"""The exception of executors."""

from __future__ import annotations


class UnsupportedExecution(Exception):  # noqa: N818 - an answer, not a failure
    """A network cannot be executed like this with the same results; the text gives the reason."""
