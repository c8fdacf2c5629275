"""Commands that run prompts: run, serve."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from .console import UsageError, command, console, emit, progress, say
from .options import (
    ComfyUIOption,
    ComfyUIPythonOption,
    EngineOption,
    ModelsOption,
    SchemasOption,
    SourceArgument,
    engine_config,
    load_schemas,
    parse_values,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from ..engines import EngineConfig, Event
    from ..packer import Bundle

EXTENSIONS = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/webp": ".webp",
    "video/mp4": ".mp4",
    "video/webm": ".webm",
    "audio/flac": ".flac",
    "audio/mpeg": ".mp3",
    "text/plain": ".txt",
}


def register(app: typer.Typer) -> None:
    """Add this group's commands."""

    @command(app, "run")
    def run(
        source: SourceArgument,
        inputs: Annotated[
            list[str] | None,
            typer.Option("--input", "-i", metavar="NAME=VALUE", help="A parameter; files by path; @FILE: its text."),
        ] = None,
        output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the results.")] = Path(
            "outputs"
        ),
        engine: EngineOption = None,
        comfyui: ComfyUIOption = None,
        comfyui_python: ComfyUIPythonOption = None,
        models: ModelsOption = None,
        schemas: SchemasOption = None,
        input_dirs: Annotated[
            list[Path] | None, typer.Option("--input-dir", metavar="DIR", help="Where input files are.")
        ] = None,
    ) -> None:
        """Run a workflow or bundle once, here.

        Saves what it produces and prints the paths.
        """
        from ..packer import Bundle

        config = engine_config(engine, comfyui, comfyui_python, models)
        known = load_schemas(comfyui, schemas)
        bundle = Bundle.open(source, schemas=known, input_dirs=tuple(input_dirs or ()))
        values = parse_values(inputs or [], bundle.interface)
        files, seconds = asyncio.run(_run(bundle, values, config, output))
        if not files:
            say("it ran, and produced nothing")
        emit({"files": files, "seconds": round(seconds, 3)}, "\n".join(item["path"] for item in files))

    @command(app, "serve", reports=False)
    def serve_command(
        source: SourceArgument,
        port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="0 takes a free one.")] = 8000,
        host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 opens it to the network.")] = "127.0.0.1",
        engine: EngineOption = None,
        comfyui: ComfyUIOption = None,
        comfyui_python: ComfyUIPythonOption = None,
        models: ModelsOption = None,
        schemas: SchemasOption = None,
        workers: Annotated[int, typer.Option(min=1, max=64, help="Workers, each with an engine of its own.")] = 1,
        data_dir: Annotated[
            Path | None,
            typer.Option(metavar="DIR", help="Jobs and artifacts; default: in your user data."),
        ] = None,
        input_dirs: Annotated[
            list[Path] | None, typer.Option("--input-dir", metavar="DIR", help="Where input files are.")
        ] = None,
    ) -> None:
        """Serve a workflow or bundle as a typed HTTP API."""
        from ..api import Settings, serve
        from ..packer import Bundle

        config = engine_config(engine, comfyui, comfyui_python, models)
        bundle = Bundle.open(source, schemas=load_schemas(comfyui, schemas), input_dirs=tuple(input_dirs or ()))
        overrides: dict[str, Any] = {"workers": workers}
        if data_dir is not None:
            overrides["data_dir"] = data_dir
        logging.basicConfig(
            level=logging.INFO if console.verbose else logging.WARNING, format="%(asctime)s %(name)s %(message)s"
        )

        def announce(url: str) -> None:
            say(f"{bundle.name} at {url} on {engine_words(config)}; documentation at {url}/docs; Ctrl+C ends it")

        serve(bundle, host=host, port=port, engine_config=config, settings=Settings(**overrides), announce=announce)


def engine_words(config: EngineConfig) -> str:
    """Which engine a configuration means, for people."""
    from ..engines.select import engine_kind

    kind = engine_kind(config)
    if kind == "embedded":
        return "the embedded engine"
    return f"the ComfyUI at {config.comfyui}" if kind == "remote" else f"a ComfyUI started from {config.comfyui}"


async def _run(
    bundle: Bundle, values: dict[str, Any], config: EngineConfig, folder: Path
) -> tuple[list[dict[str, Any]], float]:
    """Bind, run and save; the saved files in the interface's order, and the seconds it took."""
    import tempfile
    import time

    from ..engines import Checking, Finished, Produced, Progress, Started, create_engine
    from ..graph import bind

    bound = bind(bundle.prompt, bundle.interface, values)
    folder.mkdir(parents=True, exist_ok=True)
    names = {output.node: output.name for output in bundle.interface.outputs}
    order = {output.node: index for index, output in enumerate(bundle.interface.outputs)}
    saved: list[tuple[int, dict[str, Any]]] = []
    done: set[str] = set()
    with tempfile.TemporaryDirectory(prefix="atelier-run-") as scratch:
        files = {**bundle.files(bound.prompt, Path(scratch)), **bound.files}
        # A picture of one's own carries the prompt that made it, as ComfyUI's do; a service's does not.
        engine = create_engine(dataclasses.replace(config, metadata=True))
        try:
            if isinstance(engine, Checking):
                await engine.check(bound.prompt, given=files)  # all that is missing, not the first thing only
            await engine.start()
            started = time.monotonic()
            with progress("running", total=float(len(bound.prompt.nodes))) as update:
                # Every engine's run is a generator: closing it, however this ends, cancels the run.
                running = cast("AsyncGenerator[Event, None]", engine.run(bound.prompt, files=files))
                async with contextlib.aclosing(running) as events:
                    async for event in events:
                        if isinstance(event, Started):
                            node = bound.prompt.nodes.get(event.node)
                            update(float(len(done)), None, (node.title or node.class_type) if node else None)
                            done.add(event.node)
                        elif isinstance(event, Progress):
                            update(len(done) - 1 + event.value / max(event.maximum, 1), None, None)
                        elif isinstance(event, Produced) and not (event.temporary and event.node not in names):
                            item = await asyncio.to_thread(_save, event, names.get(event.node), folder)
                            saved.append((order.get(event.node, len(order)), item))
                        elif isinstance(event, Finished):
                            break
            seconds = time.monotonic() - started
        finally:
            await engine.close()
    saved.sort(key=lambda pair: (pair[0], pair[1]["index"]))
    return [item for _, item in saved], seconds


def _save(event: Any, name: str | None, folder: Path) -> dict[str, Any]:
    """Write a produced file under a free name; an engine's name is data and loses its folders."""
    media_type = event.media_type.split(";")[0].strip()
    given = Path(event.filename.replace("\\", "/")).name if event.filename else ""
    stem = Path(given).stem or name or f"node-{event.node}".replace(":", "-")
    suffix = Path(given).suffix or EXTENSIONS.get(media_type, ".bin")
    for number in range(100_000):
        path = folder / f"{stem}{f'-{number + 1}' if number else ''}{suffix}"
        try:
            with path.open("xb") as file:
                file.write(event.data if isinstance(event.data, bytes) else event.data.read_bytes())
        except FileExistsError:
            continue
        except OSError:
            path.unlink(missing_ok=True)
            raise
        return {"output": name, "node": event.node, "index": event.index, "media_type": media_type, "path": str(path)}
    raise UsageError(f"{folder}: too many files named {stem}; choose another --output")
