"""The `atelier` command: collects the command groups and turns every error into a line and an exit code."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from . import bundles, checking, demo, models, serving, workflows
from .console import FAILED, console, explain, print_error

app = typer.Typer(
    name="atelier",
    help="Take ComfyUI workflows from the editor to production: convert, inspect, pack, run, serve.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"atelier {version('comfy-atelier')}")  # noqa: T201 - standard output is the report
        raise typer.Exit


@app.callback()
def atelier(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take ComfyUI workflows from the editor to production: convert, inspect, pack, run, serve."""


for group in (workflows, checking, bundles, models, serving, demo):
    group.register(app)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 0 fine, 1 the work failed, 2 the call was wrong."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure:
            reconfigure(errors="backslashreplace")  # a console that cannot show a character must not end the work
    try:
        result = app(args=arguments, standalone_mode=True)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else FAILED if stop.code else 0
    except KeyboardInterrupt:
        print_error("stopped")
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone; there is nobody to tell
        return FAILED
    except Exception as error:
        code, message = explain(error)
        print_error(message)
        if console.verbose:
            import traceback

            traceback.print_exception(error)
        return code
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    raise SystemExit(main())
