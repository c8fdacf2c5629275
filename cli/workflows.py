"""Commands on workflows and prompts: convert, inspect, schemas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .console import UsageError, command, emit, say
from .options import ComfyUIOption, SchemasOption, SourceArgument, is_address, load_schemas
from .tables import columns

if TYPE_CHECKING:
    from ..packer import Bundle

schemas_app = typer.Typer(help="Save and look at node schemas.", no_args_is_help=True, rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.add_typer(schemas_app, name="schemas")

    @command(app, "convert", reports=False)
    def convert(
        workflow: Annotated[str, typer.Argument(metavar="WORKFLOW", help="Workflow file, picture with one, or - .")],
        object_info: Annotated[
            Path | None, typer.Argument(metavar="[OBJECT_INFO]", help="The server's /object_info, as --schemas.")
        ] = None,
        output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the prompt to this file.")] = None,
        stdout: Annotated[bool, typer.Option("--stdout", help="Write it to standard output (default).")] = False,
        comfyui: ComfyUIOption = None,
        schemas: SchemasOption = None,
        dynamic_prompts: Annotated[
            int | None,
            typer.Option(metavar="SEED", help="Resolve {a|b} in texts by this seed; default: leave them."),
        ] = None,
    ) -> None:
        """Convert a workflow to a prompt.

        Exactly what ComfyUI's own front end sends, without a browser; where that cannot be known, an error, never
        a guess.
        """
        from ..graph import NodeSchemas, read_document

        if output is not None and stdout:
            raise UsageError("--output and --stdout contradict each other; leave one out")
        if object_info is not None and schemas is not None:
            raise UsageError("node schemas given twice; leave out --schemas or the second argument")
        known = load_schemas(comfyui, schemas or object_info) or NodeSchemas.builtin()
        seed = False if dynamic_prompts is None else dynamic_prompts
        if looks_like_zip(workflow):
            from ..packer import Bundle

            prompt = Bundle.open(workflow, schemas=known).prompt
        else:
            prompt = read_document(workflow).to_prompt(known, resolve_dynamic_prompts=seed)
        text = json.dumps(prompt.to_json(), indent=2, ensure_ascii=False)
        if output is None:
            typer.echo(text)
            return
        from ..packer import write_text

        write_text(output, text + "\n")
        say(f"{output}: {len(prompt.nodes)} nodes")

    @command(app, "inspect")
    def inspect(
        source: SourceArgument,
        comfyui: ComfyUIOption = None,
        schemas: SchemasOption = None,
    ) -> None:
        """Show what a workflow or bundle offers and needs.

        Its interface, models with their source, node packs and input files.
        """
        from ..packer import Bundle

        bundle = Bundle.open(source, schemas=load_schemas(comfyui, schemas))
        data = describe(bundle)
        emit(data, lambda: description_text(data))

    @command(schemas_app, "save")
    def save(
        output: Annotated[Path, typer.Argument(metavar="FILE", help="Where the compact table goes.")],
        comfyui: ComfyUIOption = None,
        object_info: Annotated[
            Path | None, typer.Option("--object-info", metavar="FILE", help="A saved /object_info instead of a server.")
        ] = None,
        only: Annotated[
            str | None, typer.Option(metavar="PREFIX", help="Only classes whose name starts so (Atelier, say).")
        ] = None,
    ) -> None:
        """Save a server's node schemas as a compact table (names, types, defaults, choices; no prose)."""
        if (comfyui is None) == (object_info is None):
            raise UsageError("say where from: --comfyui URL or --object-info FILE, one of them")
        if comfyui is not None and not is_address(comfyui):
            raise UsageError("--comfyui: an address is needed here (http://127.0.0.1:8188, say)")
        known = load_schemas(comfyui, object_info)
        assert known is not None
        if only is not None:
            known = known.only(name for name in known if name.startswith(only))
        known.save_table(output)
        data = {"file": str(output), "classes": len(known), "size": output.stat().st_size}
        emit(data, f"{output}: {len(known)} classes, {data['size']} bytes")

    @command(schemas_app, "show")
    def show(
        class_type: Annotated[str, typer.Argument(metavar="CLASS", help="The node class.")],
        comfyui: ComfyUIOption = None,
        schemas: SchemasOption = None,
    ) -> None:
        """Show one node class: its inputs with types, defaults and bounds, and its outputs."""
        from ..graph import NodeSchemas

        known = load_schemas(comfyui, schemas) or NodeSchemas.builtin()
        if class_type not in known:
            import difflib

            near = difflib.get_close_matches(class_type, list(known), n=3)
            hint = (
                f"; did you mean {', '.join(near)}?" if near else "; give --comfyui URL or --schemas FILE that has it"
            )
            raise UsageError(f"no class {class_type!r} in these schemas{hint}")
        schema = known[class_type]
        inputs = [
            {
                "name": spec.name,
                "type": spec.type,
                "required": spec.required,
                "default": spec.default,
                "minimum": spec.minimum,
                "maximum": spec.maximum,
                "choices": list(spec.choices) if spec.choices is not None else None,
            }
            for spec in schema.inputs
        ]
        outputs = [{"name": output.name, "type": output.type} for output in schema.outputs]
        rows = [["input", "type", "default", "range or choices"]]
        for item in inputs:
            name = item["name"] if item["required"] else f"{item['name']} (optional)"
            default = "" if item["default"] is None else json.dumps(item["default"], ensure_ascii=False)
            rows.append([str(name), str(item["type"]), default, _limits(item)])
        text = f"{class_type}\n\n{columns(rows)}"
        if outputs:
            text += "\n\noutputs: " + ", ".join(f"{output['name']} ({output['type']})" for output in outputs)
        emit({"class": class_type, "inputs": inputs, "outputs": outputs}, text)


def looks_like_zip(source: str) -> bool:
    """Whether a file begins as a zip does; whatever else is wrong with it, its reader says better."""
    from ..graph.document import local_path

    try:
        with Path(local_path(source)).open("rb") as file:
            return file.read(4) == b"PK\x03\x04"
    except OSError:
        return False


def describe(bundle: Bundle) -> dict[str, Any]:
    """What `atelier inspect --json` prints of a workflow, prompt or bundle."""
    from ..packer import Snapshot

    snapshot = bundle.snapshot or Snapshot()
    stated = bundle.atelier
    packs = [{"name": pack.folder, "version": pack.commit, "url": pack.url} for pack in snapshot.git_node_packs]
    packs += [{"name": pack.id, "version": pack.version, "url": ""} for pack in snapshot.registry_node_packs]
    packs += [{"name": pack.filename, "version": "a file", "url": ""} for pack in snapshot.file_node_packs]
    return {
        "name": bundle.name,
        "path": str(bundle.path) if bundle.path else None,
        "sha256": bundle.sha256,
        "nodes": len(bundle.prompt.nodes),
        "classes": sorted({node.class_type for node in bundle.prompt.nodes.values()}),
        "interface": bundle.interface.to_json(),
        "inputs": [{"name": name, "size": file.size, "sha256": file.sha256} for name, file in bundle.inputs.items()],
        "models": [model.to_json() for model in snapshot.models] if bundle.snapshot else named_models(bundle),
        "unresolved_models": [model.to_json() for model in stated.unresolved_models] if stated else [],
        "licences": [licence.to_json() for licence in stated.licences] if stated else [],
        "node_packs": packs,
        "comfyui": (stated.comfyui_version if stated else None) or snapshot.comfyui,
        "python": snapshot.python,
        "pip_packages": len(snapshot.pips or ()),
        "notes": [*snapshot.left_out, *(stated.notes if stated else ())],
    }


def named_models(bundle: Bundle) -> list[dict[str, Any]]:
    """The model files that a workflow or prompt names: no snapshot tells their size or sha256."""
    from ..packer.models import model_refs

    names = {(ref.folders[0] if ref.folders else "?", ref.name) for ref in model_refs(bundle.prompt, bundle.schemas)}
    return [{"filename": f"models/{folder}/{name}"} for folder, name in sorted(names)]


def _limits(item: dict[str, Any]) -> str:
    if item.get("choices"):
        words = [str(choice) for choice in item["choices"]]
        return ", ".join(words) if len(words) <= 6 else ", ".join(words[:6]) + f", … ({len(words)})"
    low, high = item.get("minimum"), item.get("maximum")
    if low is None and high is None:
        return ""
    return f"{'' if low is None else low}..{'' if high is None else high}"


def _short(value: Any) -> str:
    if value is None:
        return ""
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
    text = " ".join(text.split())
    return text if len(text) <= 40 else text[:39] + "…"


def description_text(data: dict[str, Any]) -> str:
    """`atelier inspect` for people."""
    interface = data["interface"]
    lines = [f"{data['name']}: {data['nodes']} nodes, interface from {interface['source']}"]
    if data["comfyui"] or data["python"]:
        parts = [
            f"ComfyUI {data['comfyui']}" if data["comfyui"] else "",
            f"Python {data['python']}" if data["python"] else "",
        ]
        lines.append(", ".join(part for part in parts if part))
    lines.append("")
    if interface["parameters"]:
        rows = [["input", "type", "default", "range or choices", "node"]]
        for item in interface["parameters"]:
            default = "(required)" if item.get("required") else _short(item.get("default"))
            rows.append([item["name"], item["type"], default, _limits(item), f"{item['node']}.{item['input']}"])
        lines.append(columns(rows))
    else:
        lines.append("no inputs")
    lines.append("")
    if interface["outputs"]:
        rows = [["output", "type", "node"]] + [
            [item["name"], item["type"], item["node"]] for item in interface["outputs"]
        ]
        lines.append(columns(rows))
    else:
        lines.append("no outputs: nothing in it saves a picture, a video, a sound or a text")
    if data["models"]:
        rows = [["model", "size", "source"]]
        for model in data["models"]:
            size = f"{model['size'] / 1e9:.2f} GB" if model.get("size") else "?"
            source = model.get("source") or {}
            where = source.get("download_url") or source.get("url") or "unknown"
            rows.append([model["filename"], size, where])
        lines += ["", columns(rows)]
    for model in data["unresolved_models"]:
        lines.append(f"model not at hand when it was packed: {model['filename']}")
    if data["licences"]:
        rows = [["licence of", "licence", "commercial use"]]
        rows += [[item["filename"], item["name"], item["commercial"]] for item in data["licences"]]
        lines += ["", columns(rows)]
    if data["node_packs"]:
        rows = [["node pack", "version", "from"]]
        rows += [[pack["name"], pack["version"], pack["url"]] for pack in data["node_packs"]]
        lines += ["", columns(rows)]
    if data["inputs"]:
        rows = [["input file", "size"]] + [[item["name"], f"{item['size'] / 1e6:.2f} MB"] for item in data["inputs"]]
        lines += ["", columns(rows)]
    lines += [f"note: {note}" for note in data["notes"]]
    return "\n".join(lines)
