"""What every command shares: how loud it is, how it reports, how its errors read."""

from __future__ import annotations

import errno
import functools
import inspect
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, ParamSpec, TypeVar

import typer

P = ParamSpec("P")
R = TypeVar("R")

OK, FAILED, MISUSED = 0, 1, 2

# The base class of each room's errors. A room that was never imported cannot have raised.
ROOM_ERRORS = (
    ("comfy_atelier.graph.errors", "GraphError"),
    ("comfy_atelier.packer.errors", "PackerError"),
    ("comfy_atelier.engines.errors", "EngineError"),
    ("comfy_atelier.catalogue.errors", "CatalogueError"),
    ("comfy_atelier.api.errors", "ServiceError"),
)


@dataclass(kw_only=True, slots=True)
class Console:
    """How loud the running command is."""

    quiet: bool = False
    verbose: bool = False
    json: bool = False


console = Console()


class CommandError(Exception):
    """A command cannot do its work: exit code 1."""


class UsageError(CommandError):
    """The call was wrong: exit code 2."""


def command(app: typer.Typer, name: str, *, reports: bool = True) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Register a command that also takes ``-q``, ``-v`` and, where it reports something, ``--json``."""

    def register(function: Callable[P, R]) -> Callable[P, R]:
        shared = {
            "quiet": Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")],
            "verbose": Annotated[bool, typer.Option("--verbose", "-v", help="Say more; errors with their traceback.")],
            "as_json": Annotated[bool, typer.Option("--json", help="Report as JSON on standard output.")],
        }
        if not reports:
            del shared["as_json"]
        signature = inspect.signature(function, eval_str=True)
        extra = [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)
            for key, annotation in shared.items()
        ]

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            console.quiet = kwargs.pop("quiet", False)
            console.verbose = kwargs.pop("verbose", False)
            console.json = kwargs.pop("as_json", False)
            return function(*args, **kwargs)

        parameters = [*signature.parameters.values(), *extra]
        wrapped.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        del wrapped.__wrapped__  # typer would read the inner signature through it
        app.command(name)(wrapped)
        return function

    return register


def emit(data: Any, text: str | Callable[[], str]) -> None:
    """Report: `data` with ``--json``, else `text`; nothing with ``--quiet`` alone."""
    if console.json:
        print(json.dumps(data, indent=2, ensure_ascii=False, default=str))  # noqa: T201 - standard output is the report
    elif not console.quiet:
        print(text if isinstance(text, str) else text())  # noqa: T201 - standard output is the report


def say(message: str) -> None:
    """A line for people while work goes on, on standard error."""
    if not console.quiet:
        print(message, file=sys.stderr, flush=True)  # noqa: T201 - standard error is for people


def detail(message: str) -> None:
    """A line that only ``-v`` shows."""
    if console.verbose and not console.quiet:
        print(message, file=sys.stderr, flush=True)  # noqa: T201 - standard error is for people


@contextmanager
def progress(title: str, total: float | None = None) -> Iterator[Callable[[float, float | None, str | None], None]]:
    """A progress bar on standard error: call it with (done, total or None, what is being done or None).

    Without a terminal, or with ``-q`` or ``--json``, nothing is drawn.
    """
    if console.quiet or console.json or not sys.stderr.isatty():

        def nothing(done: float, total: float | None = None, label: str | None = None) -> None:
            pass

        yield nothing
        return
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=RichConsole(stderr=True),
        transient=True,
    ) as bar:
        task = bar.add_task(title, total=total)

        def update(done: float, total: float | None = None, label: str | None = None) -> None:
            bar.update(task, completed=done, total=total, description=f"{title}: {label}" if label else title)

        yield update


def _is_ours(error: BaseException) -> bool:
    for module, name in ROOM_ERRORS:
        loaded = sys.modules.get(module)
        if loaded is not None and isinstance(error, getattr(loaded, name)):
            return True
    return isinstance(error, CommandError)


def _system_words(error: OSError) -> str:
    name = f"{error.filename}: " if error.filename else ""
    remedies = {
        errno.ENOSPC: "the disk is full; free some space and run it again (nothing half-written was left)",
        errno.EACCES: "no permission; choose another place or change its permissions",
        errno.EPERM: "not permitted; choose another place or change its permissions",
        errno.EROFS: "the file system is read-only; choose another place",
        errno.ENOENT: "no such file or folder",
        errno.EISDIR: "is a folder, a file is needed",
        errno.ENOTDIR: "is not a folder",
    }
    return name + remedies.get(error.errno or 0, error.strerror or str(error))


def explain(error: BaseException) -> tuple[int, str]:
    """Exit code and words for an error: one or two lines, what, where and what to do."""
    code = MISUSED if isinstance(error, UsageError) else FAILED
    if _is_ours(error):
        return code, str(error)
    if isinstance(error, OSError):
        return code, _system_words(error)
    if isinstance(error, MemoryError):
        return code, "out of memory"
    return code, f"unexpected {type(error).__name__}: {error}; run it again with -v and report what it prints"


def print_error(message: str) -> None:
    """An error, on standard error; terminal control characters in it are made visible."""
    safe = "".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in message)
    print(f"error: {safe}", file=sys.stderr)  # noqa: T201 - standard error is for people
