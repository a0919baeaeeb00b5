"""Makes a Typer command from a settings dataclass and a function.

    app = typer.Typer()

    @command(app, TrainSettings)
    def train(settings: TrainSettings) -> Result:
        from transit_cli.training.train import train  # imports torch, so not at the top
        ...

The function gets validated settings and returns a `Result`; options, `--config`, `--print-config`, `--json`, `--quiet`,
rendering and exit codes are the same for every command and are defined here.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import signal
import sys
import tempfile
import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from transit_cli import __version__, completion, config, console, help  # noqa: A004 - the module is named after the option
from transit_cli.device import environment
from transit_cli.results import ExitCode, Result, TransitError
from transit_cli.utils import machine_errors, packages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["command"]

_S = TypeVar("_S", bound=config.Settings)

#: Signals that end a command like SIGTERM.
TERMINATING = (signal.SIGTERM, signal.SIGHUP)


def command(
    app: typer.Typer,
    settings: type[_S],
    name: str | None = None,
    *,
    prepare: bool = True,
) -> Callable[[Callable[[_S], Result]], Callable[[_S], Result]]:
    """Register a function as a command of `app`, with the fields of `settings` as its options.

    Args:
        app: the Typer app that the entry point names.
        settings: the command's settings class.
        name: the subcommand's name, if the app has several.
        prepare: set torch's environment variables before the function runs, and refuse values that break torch.
    """

    def register(body: Callable[[_S], Result]) -> Callable[[_S], Result]:
        def run(ctx: typer.Context, **values: Any) -> None:
            as_json, quiet = values.pop("json"), values.pop("quiet")
            file, print_config = values.pop("config"), values.pop("print_config")
            given = {key: value for key, value in values.items() if _given(ctx, key)}
            title = ctx.command_path.removeprefix("transit ")

            def work() -> Result | None:
                resolved = config.resolve(settings, given, file)
                if print_config:
                    with contextlib.suppress(BrokenPipeError):
                        sys.stdout.write(config.to_yaml(resolved, title))
                    return None
                if prepare:
                    environment.prepare()
                return body(resolved)

            raise typer.Exit(execute(title, work, as_json=as_json, quiet=quiet))

        parameters = [inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)]
        parameters += [_parameter(setting) for setting in config.settings_of(settings)]
        parameters += _common_parameters()
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        run.__doc__ = inspect.getdoc(body) or inspect.getdoc(sys.modules[body.__module__])
        app.command(
            name=name,
            cls=type("Command", (help.SettingsCommand,), {"settings": settings}),
            context_settings={"help_option_names": ["--help", "-h"]},
        )(run)
        return body

    return register


def _given(ctx: typer.Context, key: str) -> bool:
    """Whether a value was typed, rather than a default."""
    source = ctx.get_parameter_source(key)
    return source is not None and source.name != "DEFAULT"


def execute(title: str, work: Callable[[], Result | None], *, as_json: bool, quiet: bool) -> ExitCode:
    """Run a command's work and render its result or its error.

    Returns:
        The exit code: 130 after Ctrl-C and 143 after SIGTERM or SIGHUP, once the command has cleaned up.
    """
    with console.session(as_json=as_json, quiet=quiet), terminate_as_interrupt():
        try:
            _ensure_home()
            result = work()
            with contextlib.suppress(BrokenPipeError):  # the reader of stdout has closed it, which is no failure
                if result is not None:
                    console.show(result, command=title, version=__version__)
                console.close()
            return result.exit_code if result else ExitCode.DONE
        except KeyboardInterrupt as interrupt:
            error = interrupted(interrupt)
        except TransitError as failure:
            if os.environ.get("TRANSIT_DEBUG"):
                raise
            error = failure
        except Exception as failure:
            if os.environ.get("TRANSIT_DEBUG"):
                raise
            error = explain(failure)
        with contextlib.suppress(OSError):  # stdout is closed or full: the exit code still reports it
            console.show_error(error, command=title, version=__version__)
        return error.exit_code


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP arrived; handled as Ctrl-C is.

    Attributes:
        arrived: whether one has, since `app.main` began: Typer takes what arrives while it parses for Ctrl-C.
    """

    arrived = False


def interrupted(interrupt: BaseException) -> TransitError:
    """The error for an interrupt, whose arguments are the command that resumes and what is saved, if anything."""
    terminated = isinstance(interrupt, Terminated)
    code = ExitCode.TERMINATED if terminated else ExitCode.INTERRUPTED
    resume, saved, *_ = (*map(str, interrupt.args), "", "")
    found = "terminated" if terminated else "interrupted"
    return TransitError(f"{found}; {saved}" if saved else found, fix=resume, exit_code=code)


@typing.no_type_check
def _raise_terminated(*_: object) -> None:
    Terminated.arrived = True
    raise Terminated


@contextlib.contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """While the block runs, SIGTERM and SIGHUP (a closed terminal) unwind it as Ctrl-C does; nohup keeps its effect."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    signals = (signal.SIGTERM,) if ignored else TERMINATING
    before = {number: signal.signal(number, _raise_terminated) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ensure_home() -> None:
    """Give libraries a home folder and a user name if the system has neither, as for an unknown user of a container."""
    try:
        Path.home()
    except RuntimeError:
        home = Path(tempfile.gettempdir(), f"transit-home-{os.getuid()}")
        home.mkdir(mode=0o700, exist_ok=True)
        if home.is_symlink() or home.stat().st_uid != os.getuid():
            raise TransitError(
                f"there is no home folder, and {home} is another user's",
                wanted="a folder for caches",
                fix="set HOME to a folder of yours",
                exit_code=ExitCode.MACHINE,
                code="home-missing",
            ) from None
        os.environ["HOME"] = str(home)
        os.environ.setdefault("LOGNAME", f"user-{os.getuid()}")


def explain(error: Exception) -> TransitError:
    """The error to report for an exception that is not a `TransitError`."""
    if isinstance(error, OSError) and error.errno is not None:
        return machine_errors.os_error(error)
    if isinstance(error, MemoryError) or (isinstance(error, ImportError) and "map segment" in str(error)):
        return machine_errors.out_of_memory()
    if isinstance(error, ModuleNotFoundError) and error.name:
        return packages.missing(error.name, "all", "this command")
    last = _last_own_frame(error)
    return TransitError(
        f"this is a bug in transit: {type(error).__name__}: {error}{last}",
        fix="run it again with TRANSIT_DEBUG=1 and report what it prints",
        exit_code=ExitCode.BUG,
        code="bug",
    )


def _last_own_frame(error: Exception) -> str:
    frames = [frame for frame in _frames(error) if "transit" in frame[0]]
    return f" ({Path(frames[-1][0]).name}:{frames[-1][1]})" if frames else ""


def _frames(error: Exception) -> Iterator[tuple[str, int]]:
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame.f_code.co_filename, trace.tb_lineno
        trace = trace.tb_next


def _parameter(setting: config.Setting) -> inspect.Parameter:
    """A setting as a parameter that Typer turns into an option or an argument; `help` describes it."""
    kind, parsed_here = _typer_type(setting.type)
    default = None if setting.required or setting.default == () else setting.default
    if parsed_here and default is not None:
        default = help.default_text(setting)
    if setting.positional and typing.get_origin(setting.type) is tuple:  # FILES...: any number of words
        kind, default = list[str], None
    if setting.required:  # checked by `resolve`, since --config may give it
        kind = kind | None
    mark: Any
    complete = completion.completer(setting)
    if setting.positional:
        mark = typer.Argument(metavar=setting.label, autocompletion=complete)
    else:
        names = [f"{setting.option}/--no-{setting.option[2:]}"] if kind is bool else [setting.option]
        names += [setting.flag.short] if setting.flag and setting.flag.short else []
        mark = typer.Option(*names, case_sensitive=False, autocompletion=complete)
    return inspect.Parameter(
        setting.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind, mark],
    )


def _typer_type(kind: Any) -> tuple[Any, bool]:
    """The type that Typer is given, and whether `convert.convert` makes the real one from text."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in {typing.Union, types.UnionType}:
        arms = [arm for arm in args if arm is not types.NoneType]
        if len(arms) == 1:
            inner, parsed_here = _typer_type(arms[0])
            return inner | None, parsed_here
        return (str | None if types.NoneType in args else str), True
    if origin is tuple:
        return (str, True) if args[-1] is Ellipsis else (kind, False)
    if origin is Literal and not all(isinstance(choice, str) for choice in args):
        return str, True
    return kind, False


def _common_parameters() -> list[inspect.Parameter]:
    def parameter(name: str, flags: tuple[str, ...], kind: Any) -> inspect.Parameter:
        default = False if kind is bool else None
        annotation = Annotated[kind, typer.Option(*flags)]
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)

    return [parameter(name, flags, kind) for name, (flags, kind, _) in help.COMMON.items()]
