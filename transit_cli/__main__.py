"""The entry point of `transit`: answers --version and completes the first word without slow imports.

It imports only the parts of the standard library that each answer needs: `transit --version` takes as long as Python.
"""

import io
import os
import sys


def main() -> None:
    """Answer what needs no imports; pass everything else to the Typer app."""
    try:
        _open_streams()
        _main()
    except KeyboardInterrupt:  # before the command's own handler is installed
        sys.exit(130)


def _open_streams() -> None:
    """Replace closed standard streams by the null device: otherwise the next file that is opened takes their place."""
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(handle)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: PTH123, SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an encoding may lack a character; file names may be no text


def _main() -> None:
    try:
        answered = _answer_at_once()
        sys.stdout.flush()
    except OSError as error:  # a closed pipe is no failure, but a full disk is
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            sys.exit(0)
        print(f"error: {error.strerror}", file=sys.stderr)  # noqa: T201
        sys.exit(5)
    if not answered:
        from transit_cli.app import main as run

        sys.exit(run(sys.argv[1:]))


def _answer_at_once() -> bool:
    """Print the version or the completions of the first word; False for anything else."""
    if sys.argv[1:] == ["--version"]:
        from transit_cli import __version__

        print(f"transit {__version__}")  # noqa: T201
        return True
    return "_TRANSIT_COMPLETE" in os.environ and _complete_first_word(os.environ["_TRANSIT_COMPLETE"])


def _complete_first_word(instruction: str) -> bool:
    """Print the commands that begin with the word at the cursor, as Typer would; return whether it could.

    Typer's own answer imports rich to render help texts: four times slower. `tests/test_completion.py` checks
    that the output is the same.
    """
    if instruction == "complete_bash":
        words = os.environ.get("COMP_WORDS", "").split()
        at = int(os.environ.get("COMP_CWORD", "0"))
        typed = words[at] if at < len(words) else ""
    elif instruction in {"complete_zsh", "complete_fish"}:
        line = os.environ.get("_TYPER_COMPLETE_ARGS", "")
        words = line.split()
        at = len(words) if line.endswith(" ") else len(words) - 1
        typed = "" if line.endswith(" ") else words[-1] if words else ""
    else:
        return False
    if at != 1 or typed.startswith("-") or not set(typed) <= _PLAIN:
        return False
    if os.environ.get("_TYPER_COMPLETE_FISH_ACTION") == "is-args":
        return False
    from transit_cli.discovery import discover

    found = [plugin for name, plugin in discover().used.items() if name.startswith(typed)]
    if not found:
        return False
    if instruction == "complete_bash":
        print("\n".join(plugin.name for plugin in found))  # noqa: T201
    elif instruction == "complete_fish":
        print("\n".join(f"{plugin.name}\t{plugin.help()}" for plugin in found))  # noqa: T201
    else:
        rows = "\n".join(f'"{_zsh(plugin.name)}":"{_zsh(plugin.help())}"' for plugin in found)
        print(f"_arguments '*: :(({rows}))'")  # noqa: T201
    return True


#: The characters of a command's name; a word with any other is left to Typer.
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


def _zsh(text: str) -> str:
    for plain, escaped in (('"', '""'), ("'", "''"), ("$", "\\$"), ("`", "\\`"), (":", r"\\:")):
        text = text.replace(plain, escaped)
    return text


if __name__ == "__main__":
    main()
