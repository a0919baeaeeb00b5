"""The root of the command line: one command per entry point, imported only when it is run."""

from __future__ import annotations

import contextlib
import os
from typing import Annotated, Any

import typer
import typer.main
from typer.core import TyperCommand

from transit_cli import __version__, console
from transit_cli.command import Terminated, explain, interrupted, terminate_as_interrupt
from transit_cli.discovery import Plugin, discover
from transit_cli.help import CommandGroup
from transit_cli.results import ExitCode, TransitError


class PluginCommand(TyperCommand):
    """A plugin in help, completion and suggestions; replaced by the plugin's command when it is run."""

    def __init__(self, plugin: Plugin) -> None:
        text = plugin.help().replace("[", "\\[")
        super().__init__(
            plugin.name, help=text, short_help=text, rich_help_panel="Commands" if plugin.first_party else "Plugins"
        )
        self._plugin = plugin

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Load the plugin: called both to run a command and to complete its options."""
        try:
            real = load_command(self._plugin)
        except TransitError:
            if extra.get("resilient_parsing"):  # completion: offer nothing rather than an error
                return super().make_context(info_name, [], parent, **extra)
            raise
        return real.make_context(info_name, args, parent, **extra)


def load_command(plugin: Plugin) -> Any:
    """Import a plugin and return its command.

    Raises:
        TransitError: it does not load, or is not a Typer app.
    """
    app = plugin.load()
    if not isinstance(app, typer.Typer):
        raise plugin.failure(f"it is of type {type(app).__name__}, not typer.Typer")
    app._add_completion = False  # noqa: SLF001 - only the root has --install-completion
    try:
        loaded = typer.main.get_command(app)
    except Exception as error:
        if os.environ.get("TRANSIT_DEBUG"):
            raise
        raise plugin.failure(f"{type(error).__name__}: {error}") from error
    loaded.name = plugin.name
    return loaded


class PluginGroup(CommandGroup):
    """A group whose commands are the discovered plugins."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for plugin in discover().used.values():
            self.commands[plugin.name] = PluginCommand(plugin)


app = typer.Typer(
    cls=PluginGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["--help", "-h"]},
    pretty_exceptions_enable=False,
)


@app.callback()
def root(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", is_eager=True, help="Print the version.")] = False,
) -> None:
    """Train and vet exoplanet-transit classifiers on the machine you have: Apple silicon, NVIDIA or CPU.

    Start with `transit doctor`. Every command takes --help.
    """
    if version:  # `transit --version` without a command is handled in __main__
        print(f"transit {__version__}")  # noqa: T201
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())  # noqa: T201


def main(arguments: list[str]) -> int:
    """Run one command line and return its exit code; every failure is reported here."""
    Terminated.arrived = False
    try:
        with terminate_as_interrupt():
            code = _main(arguments)
        return ExitCode.TERMINATED if Terminated.arrived and code == ExitCode.INTERRUPTED else code
    except KeyboardInterrupt:  # outside of the command, which reports it
        return ExitCode.TERMINATED if Terminated.arrived else ExitCode.INTERRUPTED
    finally:
        with contextlib.suppress(OSError):  # reported where it happened
            console.close()


def _main(arguments: list[str]) -> int:
    if arguments[:1] == ["help"]:  # as git and others have it
        arguments = [*arguments[1:], "--help"]
    try:
        code = app(arguments, prog_name="transit", standalone_mode=False)
        console.close()
        return int(code or ExitCode.DONE)
    except typer.Abort as abort:  # what Typer makes of a KeyboardInterrupt
        error = interrupted(abort.__context__ or abort)
    except (BrokenPipeError, SystemExit) as gone:
        if isinstance(gone, SystemExit) and not isinstance(gone.__context__, BrokenPipeError):
            raise
        # Typer turns a closed pipe into exit 1; `transit --help | head` has not failed
        return ExitCode.DONE
    except Exception as failure:
        usage = getattr(failure, "format_message", None)  # every usage error that Typer raises has it
        if usage is not None:
            error = _usage_error(failure, usage())
        elif os.environ.get("TRANSIT_DEBUG"):
            raise
        else:
            error = failure if isinstance(failure, TransitError) else explain(failure)
    with console.session(as_json="--json" in arguments), contextlib.suppress(OSError):
        console.show_error(error, command=" ".join(arguments[:1]), version=__version__)
    return error.exit_code


def _usage_error(failure: Exception, message: str) -> TransitError:
    """A usage error of Typer's as a `TransitError`."""
    context = getattr(failure, "ctx", None)
    path = context.command_path if context else "transit"
    return TransitError(message.rstrip("."), fix=f"{path} --help", exit_code=ExitCode.USAGE, code="usage")
