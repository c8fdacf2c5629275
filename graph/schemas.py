"""Node schemas: what a server's ``/object_info`` says of each node class; from its answer, a file or a saved table.

Sources of the format: ComfyUI ``server.py`` (``node_info``), ``comfy_api/latest/_io.py`` (the V3 types), and what the
front end reads from it. `NodeSchemas` is a mapping that parses a class when it is first asked for, so that converting
one small workflow does not pay for nine hundred classes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar, overload

from .errors import SchemaError
from .jsontext import JSON
from .nodeschema import WIDGET_TYPES, InputSpec, NodeSchema, OutputSpec, Upload, parse_input, parse_schema
from .tableformat import TABLE_FORMAT, TABLE_VERSION, compact, from_table, to_table

__all__ = [
    "WIDGET_TYPES",
    "InputSpec",
    "NodeSchema",
    "NodeSchemas",
    "OutputSpec",
    "Upload",
    "builtin_versions",
    "parse_input",
]

_T = TypeVar("_T")

TABLES = Path(__file__).parent / "tables"
MAX_BYTES = 512 * 1024 * 1024  # of an /object_info after decompression; a server with 1,000 packs has about 30 MB


class NodeSchemas(Mapping[str, NodeSchema]):
    """Node schemas by class name. Classes are parsed when first asked for; a missing one is a `KeyError`."""

    def __init__(
        self,
        raw: Mapping[str, Any],
        *,
        choices: list[list[JSON]] | None = None,
        version: str | None = None,
        modern: bool | None = None,
    ) -> None:
        """`raw` holds server entries, table entries (with `choices`, the lists they share) or parsed schemas."""
        self._raw = raw
        self._choices = choices
        self._modern = modern
        self._parsed: dict[str, NodeSchema] = {}
        self.version = version

    def __getitem__(self, class_type: str) -> NodeSchema:
        found = self._parsed.get(class_type)
        if found is None:
            raw = self._raw[class_type]
            if isinstance(raw, NodeSchema):
                found = raw
            elif self._choices is not None:
                found = from_table(class_type, raw, self._choices)
            else:
                found = parse_schema(class_type, raw)
            self._parsed[class_type] = found
        return found

    @overload
    def get(self, class_type: str, /) -> NodeSchema | None: ...
    @overload
    def get(self, class_type: str, /, default: NodeSchema | _T) -> NodeSchema | _T: ...
    def get(self, class_type: str, /, default: Any = None) -> Any:
        # Asked for each node of a workflow; the one inherited goes through an exception where there is none.
        return self._parsed.get(class_type) or (self[class_type] if class_type in self._raw else default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def __len__(self) -> int:
        return len(self._raw)

    def __contains__(self, class_type: object) -> bool:
        return class_type in self._raw

    @cached_property
    def modern(self) -> bool:
        """Whether the server's front end is one of 2026 (1.4x), by what the server says of its nodes.

        Both generations give other answers for some files: promoted widgets, ids inside subgraphs, muted subgraphs.
        """
        if self._modern is not None:
            return self._modern
        return any(
            isinstance(entry, dict) and ("essentials_category" in entry or "has_intermediate_output" in entry)
            for entry in self._raw.values()
        )

    def __repr__(self) -> str:
        return f"<NodeSchemas: {len(self)} classes{f' of ComfyUI {self.version}' if self.version else ''}>"

    @classmethod
    def from_object_info(cls, info: JSON, *, version: str | None = None) -> Self:
        """From the JSON of a server's ``/object_info``; `SchemaError` where it is none."""
        if not isinstance(info, dict) or not all(isinstance(entry, dict) for entry in info.values()):
            raise SchemaError("this is not a server's /object_info: it must be an object of objects, one a class")
        if info and not any("input" in entry or "output" in entry for entry in info.values()):
            raise SchemaError(
                "this is not a server's /object_info: no class in it has an input or an output",
                remedy="save one with `atelier schemas save --comfyui URL`",
            )
        return cls(info, version=version)

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """From a file with a server's ``/object_info`` or a table saved by `save_table`, plain or as ``.xz``."""
        path = Path(path)
        try:
            data = _read(path)
            parsed = json.loads(data)
        except OSError as error:
            raise SchemaError(f"cannot be read: {error.strerror or error}", file=str(path)) from error
        except (ValueError, RecursionError) as error:
            raise SchemaError(f"is not JSON: {error}", file=str(path)) from error
        if isinstance(parsed, dict) and parsed.get("format") == TABLE_FORMAT:
            return cls._from_table_json(parsed, str(path))
        try:
            return cls.from_object_info(parsed)
        except SchemaError as error:
            raise error.at(file=str(path)) from None

    @classmethod
    def _from_table_json(cls, table: dict[str, Any], file: str) -> Self:
        if table.get("version") != TABLE_VERSION:
            raise SchemaError(
                f"is a table of format version {table.get('version')!r}, this program reads {TABLE_VERSION}",
                file=file,
                remedy="save it again with `atelier schemas save`",
            )
        classes, choices = table.get("classes"), table.get("choices")
        if not isinstance(classes, dict) or not isinstance(choices, list):
            raise SchemaError("is a damaged table of node schemas", file=file)
        return cls(classes, choices=choices, version=table.get("comfyui"), modern=table.get("modern") is True)

    @classmethod
    def builtin(cls, version: str | None = None) -> NodeSchemas:
        """What ships with the package: schemas of ComfyUI `version` (the newest by default) and of our own nodes.

        Lists of model and input files are not in them (`InputSpec.open_choices`): they differ from machine to machine.
        """
        found = builtin_versions()
        if version is None:
            version = found[-1] if found else ""
        if version not in found:
            raise SchemaError(
                f"no schemas of ComfyUI {version} ship with this package, only of {', '.join(found)}",
                remedy="give --comfyui URL, or --schemas FILE with the server's /object_info",
            )
        schemas: NodeSchemas = cls.from_file(TABLES / f"comfyui-{version}.json")
        for table in ("markers.json", "atelier.json"):  # comfy-pack's and ComfyUI-Deploy's marker nodes; our own nodes
            if (TABLES / table).is_file():
                schemas = schemas.merged(cls.from_file(TABLES / table))
        return schemas

    def merged(self, other: NodeSchemas) -> NodeSchemas:
        """Both; where both have a class, `other` wins."""
        return NodeSchemas(_Chain(other, self), version=self.version or other.version, modern=self.modern)

    def only(self, names: Iterable[str]) -> NodeSchemas:
        """These classes alone; a name that is not there is a `KeyError`."""
        return NodeSchemas({name: self[name] for name in names}, version=self.version, modern=self.modern)

    def save_table(self, path: str | Path, *, version: str | None = None) -> None:
        """Write a compact table: names, types, defaults, choices, order, outputs; no prose.

        The same schemas give the same bytes. Choices that depend on the machine are left out. Written to a temporary
        file first, so that a full disk leaves the old table.
        """
        path = Path(path)
        text = self.table_text(version=version)
        temporary = path.with_name(path.name + ".part")
        try:
            if path.exists() and not path.is_file():  # a device or a pipe is written to, never replaced
                path.write_text(text, encoding="utf-8", newline="\n")
                return
            temporary.write_text(text, encoding="utf-8", newline="\n")
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise SchemaError(f"cannot be written: {error.strerror or error}", file=str(path)) from error

    def table_text(self, *, version: str | None = None) -> str:
        """The text of the table that `save_table` writes: one line for each class and each shared list of choices."""
        shared: dict[str, int] = {}
        lines = []
        for class_type in sorted(self):
            entry = to_table(self[class_type], shared)
            lines.append(f"{json.dumps(class_type, ensure_ascii=False)}:{compact(entry)}")
        head = f'"format":{json.dumps(TABLE_FORMAT)},"version":{TABLE_VERSION},'
        head += f'"comfyui":{json.dumps(version or self.version)},"modern":{json.dumps(self.modern)},'
        return "{" + head + '"choices":[\n' + ",\n".join(shared) + '\n],"classes":{\n' + ",\n".join(lines) + "\n}}\n"


class _Chain(Mapping[str, NodeSchema]):
    """Several schemas as one, the first that has a class wins; nothing is parsed before it is asked for."""

    def __init__(self, *parts: NodeSchemas) -> None:
        self._parts = parts

    def __getitem__(self, class_type: str) -> NodeSchema:
        for part in self._parts:
            if class_type in part:
                return part[class_type]
        raise KeyError(class_type)

    def __contains__(self, class_type: object) -> bool:
        return any(class_type in part for part in self._parts)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name for part in reversed(self._parts) for name in part))

    def __len__(self) -> int:
        return len(set().union(*self._parts))


def builtin_versions() -> tuple[str, ...]:
    """The ComfyUI versions whose schemas ship with this package, oldest first."""
    names = (path.name.removeprefix("comfyui-").removesuffix(".json") for path in TABLES.glob("comfyui-*.json"))
    return tuple(sorted(names, key=lambda name: [int(part) if part.isdigit() else 0 for part in name.split(".")]))


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        start = file.read(6)
        file.seek(0)
        if start == b"\xfd7zXZ\x00":
            import lzma

            try:
                with lzma.open(file) as unpacked:
                    data = unpacked.read(MAX_BYTES + 1)
            except (lzma.LZMAError, EOFError) as error:
                raise SchemaError(f"is a damaged .xz file: {error}", file=str(path)) from error
        else:
            data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise SchemaError(f"is larger than {MAX_BYTES >> 20} MB", file=str(path))
    return data
