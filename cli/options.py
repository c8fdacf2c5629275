"""Options that several commands take, and what they mean."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .console import UsageError, detail

if TYPE_CHECKING:
    from ..engines import EngineConfig
    from ..graph import Interface, NodeSchemas

ComfyUIOption = Annotated[
    str | None,
    typer.Option("--comfyui", metavar="URL_OR_PATH", help="A running ComfyUI's address, or the path of a checkout."),
]
ComfyUIPythonOption = Annotated[
    str | None,
    typer.Option("--comfyui-python", metavar="EXE", help="The Python that runs the checkout given by --comfyui."),
]
EngineOption = Annotated[
    str | None,
    typer.Option(
        "--engine", metavar="embedded|comfyui", help="Default: comfyui where one is configured, else embedded."
    ),
]
ModelsOption = Annotated[
    list[Path] | None,
    typer.Option("--models", metavar="DIR", help="A models folder, laid out as ComfyUI's; repeatable."),
]
SchemasOption = Annotated[
    Path | None,
    typer.Option("--schemas", metavar="FILE", help="Node schemas: an /object_info JSON, or a saved table."),
]
SourceArgument = Annotated[
    str, typer.Argument(metavar="X", help="A workflow, a prompt or a bundle; also a picture that holds one.")
]


def is_address(value: str) -> bool:
    """Whether ``--comfyui`` names a server rather than a folder."""
    from ..engines.select import is_address as engines_view

    return engines_view(value)


def load_schemas(comfyui: str | None = None, schemas: Path | None = None) -> NodeSchemas | None:
    """The node schemas that the options ask for; None means the table that ships with the package.

    Raises:
        GraphError: the file is no schema file.
        EngineError: the server does not answer.
    """
    if schemas is not None:
        from ..graph import NodeSchemas

        return NodeSchemas.from_file(schemas)
    if comfyui is not None and is_address(comfyui):
        from ..engines import ComfyUIEngine

        async def ask() -> NodeSchemas:
            engine = ComfyUIEngine(comfyui)
            try:
                await engine.start()
                return await engine.schemas()
            finally:
                await engine.close()

        detail(f"reading node schemas from {comfyui}")
        return asyncio.run(ask())
    return None


def engine_config(
    engine: str | None, comfyui: str | None, comfyui_python: str | None, models: list[Path] | None = None
) -> EngineConfig:
    """What the engine options and the settings together ask for.

    Raises:
        UsageError: the options contradict each other, or a models folder is not there.
    """
    from ..api import Settings
    from ..engines import EngineConfig

    kind: Literal["embedded", "comfyui"] | None = None
    if engine == "embedded":
        kind = "embedded"
    elif engine == "comfyui":
        kind = "comfyui"
    elif engine is not None:
        raise UsageError(f"--engine {engine}: there is no such engine; use embedded or comfyui")
    if engine == "embedded" and comfyui and is_address(comfyui):
        raise UsageError(
            "--engine embedded and the address of a ComfyUI contradict each other; "
            "leave one out, or give a ComfyUI's folder for its models and tokenizers"
        )
    settings = Settings()
    folders = [("--models", folder.expanduser()) for folder in models or ()]
    folders += [("ATELIER_MODELS:", folder) for folder in settings.models]
    for origin, folder in folders:
        if not folder.is_dir():
            raise UsageError(f"{origin} {folder}: no such folder")
    return EngineConfig(
        kind=kind,
        comfyui=comfyui or settings.comfyui,
        comfyui_python=comfyui_python or settings.comfyui_python,
        models_dirs=tuple(dict.fromkeys(folder.resolve() for _, folder in folders)),
    )


def parse_values(pairs: list[str], interface: Interface) -> dict[str, Any]:
    """``name=value`` pairs as the interface's types want them; ``name=@FILE`` reads a text from a file.

    Files stay `Path`s. What no type can tell (bounds, choices) `graph.bind` checks.

    Raises:
        UsageError: a pair without ``=``, an unknown name, a file that is not there.
        BindError: a number or a switch that is none.
    """
    from ..graph import parse_value

    parameters = {parameter.name: parameter for parameter in interface.parameters}
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise UsageError(f"--input {pair!r}: write it as name=value")
        if name not in parameters:
            known = ", ".join(parameters) or "none"
            raise UsageError(f"--input {name}: there is no such parameter; this one has: {known}")
        if name in values:
            raise UsageError(f"--input {name}: given twice")
        parameter = parameters[name]
        if parameter.type.is_file:
            values[name] = _file(name, text)
        elif parameter.type == "text" and text.startswith("@@"):
            values[name] = text[1:]
        elif parameter.type == "text" and text.startswith("@"):
            values[name] = _file(name, text[1:], "; to send a text that starts with @, write @@").read_text("utf-8")
        else:
            values[name] = parse_value(parameter, text)
    return values


def _file(name: str, text: str, hint: str = "") -> Path:
    path = Path(text).expanduser()
    if not path.is_file():
        raise UsageError(f"--input {name}: no file {text!r}{hint}")
    return path
