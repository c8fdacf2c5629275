"""`export`: a service project of a person's own, around a bundle.

The project is `app.py` (a typed FastAPI module to edit), the bundle, a wheel of this package, a Dockerfile, a compose
file and a README whose calls work as they stand. The texts are in ``templates/``; what is filled in is made here.
"""

from __future__ import annotations

import json
import shlex
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from ..graph import Interface, OutputType, Parameter, ParameterType
from .bundle import Bundle
from .errors import PackerError
from .model_source import imports, model_source
from .packing import pack
from .pins import pins
from .staging import new_folder, write_error
from .wheel import NAME, running_wheel

TEMPLATES = Path(__file__).parent / "templates"
FILES = {
    "app.py": "app.py.txt",
    "Dockerfile": "Dockerfile.txt",
    "compose.yaml": "compose.yaml.txt",
    ".dockerignore": "dockerignore.txt",
    "requirements.txt": "requirements.txt.txt",
    "constraints.txt": "constraints.txt.txt",
    "README.md": "README.md.txt",
}
EXAMPLES = {"image": "picture.png", "mask": "mask.png", "video": "video.mp4", "audio": "sound.wav", "file": "file.bin"}
RESULTS = {OutputType.IMAGE: "png", OutputType.VIDEO: "mp4", OutputType.AUDIO: "flac", OutputType.TEXT: "txt"}


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportReport:
    """What `export` wrote: ``files`` are paths below ``folder``."""

    folder: Path
    files: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {"folder": str(self.folder), "files": list(self.files)}


def export(bundle: Bundle, folder: str | Path, *, wheel: str | Path | None = None) -> ExportReport:
    """Write a service project for ``bundle`` into ``folder``, which is made; all of it or nothing.

    The same bundle and version give the same bytes.

    Args:
        bundle: a bundle; a workflow or a prompt is packed on the way, models that are not here noted.
        wheel: a wheel of this package to carry; made from what runs where None.

    Raises:
        PackerError: ``folder`` has something in it or cannot be written, or no wheel can be made.
        GraphError: the workflow is wrong.
    """
    folder = Path(folder)
    name = plain_name(bundle.name)
    bundle_name = f"{name}.cpack.zip"
    with new_folder(folder) as stage:
        wheels = stage / "wheels"
        wheels.mkdir()
        wheel_path = _carried(Path(wheel), wheels) if wheel is not None else running_wheel().write(wheels)
        _write_bundle(bundle, stage / bundle_name)
        values = {
            "title": bundle.name.replace("\\", "/").replace('"', "'"),
            "name": name.lower(),
            "bundle": bundle_name,
            "wheel": wheel_path.name,
            "version": wheel_path.name.split("-")[1],
            "imports": _imports(bundle.interface),
            "model": model_source(bundle.interface),
            "pins": "\n".join(pins(NAME, frozenset({"embedded"}))),
            **_calls(bundle.interface),
        }
        for target, source in FILES.items():
            template = Template((TEMPLATES / source).read_text(encoding="utf-8"))
            (stage / target).write_text(template.substitute(values), encoding="utf-8", newline="\n")
        files = tuple(sorted(path.relative_to(stage).as_posix() for path in stage.rglob("*") if path.is_file()))
    return ExportReport(folder=folder, files=files)


def plain_name(name: str) -> str:
    """A name that is safe as a file's, a compose service's and in a shell: ASCII letters, digits and dashes."""
    kept = "".join(c if c.isascii() and c.isalnum() else "-" for c in name)
    return "-".join(part for part in kept.split("-") if part)[:60] or "workflow"


def _carried(wheel: Path, folder: Path) -> Path:
    """Copy a wheel that was given, after a look whether it is one of ours."""
    if not wheel.name.startswith("comfy_atelier-") or wheel.suffix != ".whl" or len(wheel.name.split("-")) < 5:
        raise PackerError(
            f"is no wheel of {NAME}", file=str(wheel), remedy="give comfy_atelier-VERSION-py3-none-any.whl"
        )
    try:
        if not zipfile.is_zipfile(wheel):
            raise PackerError("is no wheel but something else of that name", file=str(wheel), remedy="build it again")
        target = folder / wheel.name
        target.write_bytes(wheel.read_bytes())
    except OSError as error:
        raise write_error(error, wheel) from error
    return target


def _write_bundle(bundle: Bundle, target: Path) -> None:
    """The bundle as it is, where it is one and its interface is its own; else packed anew."""
    if bundle.archive is not None and bundle.path is not None and bundle.given_interface is None:
        target.write_bytes(bundle.path.read_bytes())
    else:
        pack(bundle, target, allow_missing_models=True)


def _imports(interface: Interface) -> str:
    typing, pydantic, ours = imports(interface)
    lines = ["from pathlib import Path"]
    if typing:
        lines.append(f"from typing import {', '.join(sorted(typing))}")
    lines += ["", "from fastapi import Response"]
    if pydantic:
        lines.append(f"from pydantic import {', '.join(sorted(pydantic))}")
    names = ", ".join(sorted({*ours, "Call", "Service"}))
    return "\n".join([*lines, "", f"from comfy_atelier.api import {names}"])


# --- the README's calls -----------------------------------------------------------------------------------------------


def _calls(interface: Interface) -> Mapping[str, str]:
    plain = _example_values(interface)
    files = [p for p in interface.parameters if p.type.is_file]
    needed = [p for p in files if p.required]
    shown = needed or files[:1]
    result = _result_name(interface)
    return {
        "parameters": _parameter_table(interface),
        "outputs": _output_note(interface, shown),
        "curl": _curl(plain, shown, needed, result),
        "python": _python(plain, needed, result),
        "javascript": _javascript(plain, needed, result),
    }


def _example_values(interface: Interface) -> dict[str, Any]:
    """A few parameters with their defaults; a required one gets something that fits."""
    values: dict[str, Any] = {}
    for parameter in interface.parameters:
        if parameter.type.is_file:
            continue
        value = _example(parameter) if parameter.default is None else parameter.default
        short = not isinstance(value, str) or ("\n" not in value and len(value) <= 60)
        if parameter.required or (parameter.default is not None and len(values) < 3 and short):
            values[parameter.name] = value
    return values


def _example(parameter: Parameter) -> Any:
    if parameter.type is ParameterType.CHOICE:
        return (parameter.choices or ("",))[0]
    if parameter.type in {ParameterType.INTEGER, ParameterType.NUMBER}:
        return parameter.minimum if parameter.minimum is not None else parameter.maximum or 0
    return True if parameter.type is ParameterType.BOOLEAN else "hello"


def _result_name(interface: Interface) -> str:
    """What to save an answer as: a file where there is one output, else JSON."""
    if len(interface.outputs) != 1:
        return "result.json"
    return f"result.{RESULTS.get(interface.outputs[0].type, 'bin')}"


def _parameter_table(interface: Interface) -> str:
    if not interface.parameters:
        return "The workflow takes no parameters.\n"
    rows = ["| parameter | type | default | |", "| --- | --- | --- | --- |"]
    for parameter in interface.parameters:
        limits = ""
        if parameter.minimum is not None and parameter.maximum is not None:
            limits = f" {parameter.minimum} … {parameter.maximum}"
        standard = "needed" if parameter.required else _cell(json.dumps(parameter.default, ensure_ascii=False), 60)
        note = _cell(parameter.description or parameter.title, 120)
        rows.append(f"| `{parameter.name}` | {parameter.type.value}{limits} | {standard} | {note} |")
    return "\n".join(rows) + "\n"


def _cell(text: str, limit: int) -> str:
    """Text in a table's cell: one line, not long, nothing that Markdown or HTML would obey."""
    text = " ".join(text.split())
    text = text if len(text) <= limit else f"{text[: limit - 1]}…"
    return "".join(f"\\{c}" if c in "|\\`*_[]#" else {"<": "&lt;", ">": "&gt;"}.get(c, c) for c in text)


def _output_note(interface: Interface, files: list[Parameter]) -> str:
    names = ", ".join(f"`{output.name}` ({output.type.value})" for output in interface.outputs)
    if not interface.outputs:
        text = "The workflow states no output.\n"
    elif len(interface.outputs) == 1:
        text = f"The answer is the file itself, {names}; with `Accept: application/json` it is JSON that links to it.\n"
    else:
        text = f"The answer is JSON with a link to each output: {names}.\n"
    if files:
        given = ", ".join(f"`{EXAMPLES[p.type.value]}`" for p in files)
        text += (
            f"In the calls below {given} {'are files' if len(files) > 1 else 'is a file'} of yours in this folder.\n"
        )
    return "\n" + text


def _curl(plain: Mapping[str, Any], files: list[Parameter], needed: list[Parameter], result: str) -> str:
    base = "http://127.0.0.1:8000"
    body = shlex.quote(json.dumps(plain, ensure_ascii=False))
    as_json = f"-H 'Content-Type: application/json' -d {body}"
    parts = " ".join(
        [
            *(f"-F {shlex.quote(f'{p.name}=@{EXAMPLES[p.type.value]}')}" for p in files),
            *(f"--form-string {shlex.quote(f'{name}={_form(value)}')}" for name, value in plain.items()),
        ]
    )
    lines = []
    if not needed:
        lines += ["# JSON in, the result out", f"curl --fail-with-body {as_json} {base}/generate -o {result}", ""]
    if files:
        lines += ["# a file of yours, as multipart", f"curl --fail-with-body {parts} {base}/generate -o {result}", ""]
    way = parts if needed else as_json
    lines += [
        "# not waiting: the job is kept even if the service is restarted; then its events until it ends, then the job",
        f"curl --fail-with-body {way} {base}/jobs -o job.json",
        'job=$(sed \'s/.*"id":"\\([0-9a-f-]*\\)".*/\\1/\' job.json)',
        f"curl -N {base}/jobs/$job/events",
        f"curl {base}/jobs/$job",
    ]
    return "\n".join(lines)


def _form(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _python(plain: Mapping[str, Any], needed: list[Parameter], result: str) -> str:
    lines = ["import base64" if needed else "", "import json", "import urllib.request", ""]
    lines = [line for number, line in enumerate(lines) if line or number == len(lines) - 1]
    lines.append(f"inputs = {plain!r}")
    for parameter in needed:
        name = EXAMPLES[parameter.type.value]
        lines.append(f'with open("{name}", "rb") as file:')
        lines.append(
            f"    inputs[{parameter.name!r}] = "
            '"data:application/octet-stream;base64," + base64.b64encode(file.read()).decode()'
        )
    lines += [
        "request = urllib.request.Request(",
        '    "http://127.0.0.1:8000/generate",',
        "    data=json.dumps(inputs).encode(),",
        '    headers={"Content-Type": "application/json"},',
        ")",
        f'with urllib.request.urlopen(request) as answer, open("{result}", "wb") as file:',
        "    file.write(answer.read())",
    ]
    return "\n".join(lines)


def _javascript(plain: Mapping[str, Any], needed: list[Parameter], result: str) -> str:
    values = json.dumps(plain, ensure_ascii=False, indent=2)
    if not needed:
        return "\n".join(
            [
                f"const inputs = {values};",
                'const answer = await fetch("http://127.0.0.1:8000/generate", {',
                '  method: "POST",',
                '  headers: { "Content-Type": "application/json" },',
                "  body: JSON.stringify(inputs),",
                "});",
                "if (!answer.ok) throw new Error((await answer.json()).detail);",
                f"const result = await answer.{'json()' if result == 'result.json' else 'blob()'};",
            ]
        )
    lines = ['import { readFile } from "node:fs/promises"; // in a browser take the File of an <input type="file">', ""]
    lines += ["const form = new FormData();"]
    lines += [
        f"form.append({json.dumps(p.name)}, new Blob([await readFile({json.dumps(EXAMPLES[p.type.value])})]),"
        f" {json.dumps(EXAMPLES[p.type.value])});"
        for p in needed
    ]
    lines += (
        [f"for (const [name, value] of Object.entries({values})) form.append(name, String(value));"] if plain else []
    )
    lines += [
        'const answer = await fetch("http://127.0.0.1:8000/generate", { method: "POST", body: form });',
        "if (!answer.ok) throw new Error((await answer.json()).detail);",
        f"const result = await answer.{'json()' if result == 'result.json' else 'blob()'};",
    ]
    return "\n".join(lines)
