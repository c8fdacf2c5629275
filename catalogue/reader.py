"""The one reader of ``catalogue/data``: a TOML file per family, plus the licences and the files that families share.

A family's file has a head, ``[defaults]`` that every variant inherits (tables merge key by key), and lists
``[[files]]``, ``[[variants]]``, ``[[loras]]``, ``[[controls]]``. Files are named by id; ids are unique in the whole
catalogue.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

from .entries import (
    Commercial,
    Control,
    ControlMethod,
    Family,
    FileSet,
    Latent,
    Licence,
    Lora,
    ModelFile,
    Resolution,
    Role,
    Runs,
    Sampling,
    Task,
    Variant,
)
from .errors import DataError
from .table import Table

Find = Callable[[Table, str], ModelFile]
_COMMERCIAL, _ROLES, _TASKS, _RUNS, _METHODS = map(get_args, (Commercial, Role, Task, Runs, ControlMethod))
SAMPLING_FIELDS = frozenset(item.name for item in fields(Sampling))


def _load(path: Path) -> Table:
    import tomllib

    try:
        with path.open("rb") as stream:
            return Table(tomllib.load(stream), path.name)
    except OSError as error:
        raise DataError(f"{path.name}: cannot read: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{path.name}: not TOML: {error}") from error


def read_licences(path: Path) -> dict[str, Licence]:
    """Every licence of ``licences.toml`` by id."""
    licences: dict[str, Licence] = {}
    document = _load(path)
    for row in document.tables("licences"):
        licence = Licence(
            id=row.get("id", str),
            name=row.get("name", str),
            url=row.get("url", str),
            commercial=row.choice("commercial", _COMMERCIAL),
            conditions=row.get("conditions", str),
            outputs=row.get("outputs", str),
            territory=row.get("territory", str),
            source=row.get("source", str),
            unverified=row.texts("unverified"),
        )
        row.done()
        licences[licence.id] = licence
    document.done()
    return licences


def _licence(row: Table, licences: Mapping[str, Licence]) -> Licence:
    name = row.get("licence", str)
    if name not in licences:
        raise row.fail(f"licence '{name}' is not in licences.toml")
    return licences[name]


def _files(document: Table, licences: Mapping[str, Licence], family: str | None) -> dict[str, ModelFile]:
    files: dict[str, ModelFile] = {}
    for row in document.tables("files"):
        file = ModelFile(
            id=row.get("id", str),
            role=row.choice("role", _ROLES),
            name=row.get("name", str),
            folder=row.get("folder", str),
            url=row.optional("url", str),
            mirrors=row.strings("mirrors"),
            sha256=row.optional("sha256", str),
            size=row.optional("size", int),
            licence=_licence(row, licences),
            family=family,
            gated=row.get("gated", bool, False),
            precision=row.optional("precision", str),
            note=row.optional("note", str),
            unverified=row.texts("unverified"),
            absent=row.texts("absent"),
        )
        row.done()
        files[file.id] = file
    return files


def read_shared_files(path: Path, licences: Mapping[str, Licence]) -> dict[str, ModelFile]:
    """The files of ``shared.toml`` (text encoders, VAEs, CLIP vision that several families use) by id."""
    document = _load(path)
    files = _files(document, licences, None)
    document.done()
    return files


def _merged(defaults: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(defaults)
    for key, value in values.items():
        inherited = result.get(key)
        result[key] = {**inherited, **value} if isinstance(value, dict) and isinstance(inherited, dict) else value
    # A reason of the variant's own takes the inherited value away; a value of its own takes the inherited reason away.
    own = values.get("absent", {})
    for place in own:
        _drop(result, place.split("."))
    # An empty text says that the family's doubt does not hold for this variant.
    result["unverified"] = {place: why for place, why in result.get("unverified", {}).items() if why}
    reasons: Mapping[str, str] = result.get("absent", {})
    result["absent"] = {place: why for place, why in reasons.items() if place in own or not _has(result, place)}
    return result


def _drop(values: dict[str, Any], path: list[str]) -> None:
    if len(path) == 1:
        values.pop(path[0], None)
    elif isinstance(values.get(path[0]), dict):
        values[path[0]] = dict(values[path[0]])
        _drop(values[path[0]], path[1:])


def _has(values: Mapping[str, Any], place: str) -> bool:
    for key in place.split("."):
        if not isinstance(values, Mapping) or key not in values:
            return False
        values = values[key]
    return True


def _latent(row: Table | None) -> Latent | None:
    if row is None:
        return None
    latent = Latent(
        channels=row.get("channels", int),
        downscale=row.get("downscale", int),
        node=row.optional("node", str),
        source=row.optional("source", str),
        frames=row.optional("frames", int),
    )
    row.done()
    return latent


def _resolution(row: Table | None) -> Resolution | None:
    if row is None:
        return None
    sizes = []
    for text in row.strings("sizes"):
        width, _, height = text.partition("x")
        if not (width.isdigit() and height.isdigit()):
            raise row.fail(f"size '{text}' must read like 1024x1024")
        sizes.append((int(width), int(height)))
    resolution = Resolution(
        width=row.get("width", int),
        height=row.get("height", int),
        multiple=row.get("multiple", int),
        min_pixels=row.get("min_pixels", int),
        max_pixels=row.get("max_pixels", int),
        sizes=tuple(sizes),
        exact=row.get("exact", bool, False),
    )
    row.done()
    return resolution


def _range(row: Table, steps: int) -> tuple[int, int]:
    values = row.get("steps_range", list, [steps, steps])
    if len(values) != 2 or not all(type(value) is int for value in values) or not values[0] <= steps <= values[1]:
        raise row.fail("'steps_range' must be [lowest, highest] around 'steps'")
    return values[0], values[1]


def _sampling(row: Table | None) -> Sampling | None:
    if row is None:
        return None
    steps, shift, shift_node = row.get("steps", int), row.optional("shift", float), row.optional("shift_node", str)
    sampling = Sampling(
        sampler=row.get("sampler", str),
        scheduler=row.get("scheduler", str),
        steps=steps,
        steps_range=_range(row, steps),
        cfg=row.get("cfg", float),
        cfg2=row.optional("cfg2", float),
        guider=row.get("guider", str, "ksampler"),
        guidance=row.optional("guidance", float),
        shift=shift,
        shift_node=shift_node if shift is not None else None,
        cfg_norm=row.optional("cfg_norm", float),
        source=row.get("source", str),
    )
    row.done()
    return sampling


def _changes(row: Table) -> Mapping[str, Any]:
    values = row.get("sampling", dict, {})
    unknown = sorted(set(values) - SAMPLING_FIELDS)
    if unknown:
        raise row.fail(f"'sampling' has unknown keys: {', '.join(unknown)}")
    return MappingProxyType({key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


def _variant(
    row: Table, family: str, licences: Mapping[str, Licence], find: Callable[[Table, str], ModelFile]
) -> Variant:
    sets = []
    for part in row.tables("file_sets"):
        names = part.strings("files")
        sets.append(
            FileSet(
                name=part.get("name", str),
                files=tuple(find(part, name) for name in names),
                loaders=part.strings("loaders"),
            )
        )
        part.done()
    variant = Variant(
        id=row.get("id", str),
        family=family,
        name=row.get("name", str),
        architecture=row.get("architecture", str),
        tasks=tuple(row.strings("tasks")),  # type: ignore[arg-type]  # checked against Task below
        runs=row.choice("runs", _RUNS, "comfyui"),
        licence=_licence(row, licences),
        parameters=row.optional("parameters", int),
        file_sets=tuple(sets),
        optional=tuple(find(row, name) for name in row.strings("optional")),
        text_encoder=row.optional("text_encoder", str),
        text_encoders=row.strings("text_encoders"),
        latent=_latent(row.table("latent")),
        resolution=_resolution(row.table("resolution")),
        sampling=_sampling(row.table("sampling")),
        negative_prompt=row.get("negative_prompt", bool),
        guidance_distilled=row.get("guidance_distilled", bool),
        comfyui=row.optional("comfyui", str),
        notes=row.strings("notes"),
        unverified=row.texts("unverified"),
        absent=row.texts("absent"),
    )
    row.done()
    for task in variant.tasks:
        if task not in _TASKS:
            raise row.fail(f"task '{task}' is none of {', '.join(_TASKS)}")
    return variant


def _known_variants(row: Table, known: tuple[str, ...]) -> tuple[str, ...]:
    names = row.strings("variants")
    for name in names:
        if name not in known:
            raise row.fail(f"variant '{name}' is not in this family")
    return names


def _lora(row: Table, family: str, known: tuple[str, ...], find: Find) -> Lora:
    file = find(row, row.get("file", str))
    lora = Lora(
        id=row.get("id", str),
        family=family,
        name=row.get("name", str),
        file=file,
        variants=_known_variants(row, known),
        licence=file.licence,
        strength=row.get("strength", float),
        sampling=_changes(row),
        trigger=row.optional("trigger", str),
        notes=row.strings("notes"),
        unverified=row.texts("unverified"),
    )
    row.done()
    return lora


def _control(row: Table, family: str, known: tuple[str, ...], find: Find) -> Control:
    file = find(row, row.get("file", str))
    control = Control(
        id=row.get("id", str),
        family=family,
        name=row.get("name", str),
        file=file,
        variants=_known_variants(row, known),
        licence=file.licence,
        method=row.choice("method", _METHODS),
        kinds=row.strings("kinds"),
        union_type=row.texts("union_type"),
        strength=row.get("strength", float),
        needs_vae=row.get("needs_vae", bool),
        sampling=_changes(row),
        comfyui=row.get("comfyui", str),
        notes=row.strings("notes"),
        unverified=row.texts("unverified"),
    )
    row.done()
    return control


def read_family(path: Path, licences: Mapping[str, Licence], shared: Mapping[str, ModelFile]) -> Family:
    """The family that one data file describes; a DataError names file, entry and key.

    ``licences`` and ``shared`` are what :func:`read_licences` and :func:`read_shared_files` gave.
    """
    document = _load(path)
    family = document.get("id", str)
    files = _files(document, licences, family)

    def find(row: Table, name: str) -> ModelFile:
        file = files.get(name) or shared.get(name)
        if file is None:
            raise row.fail(f"file '{name}' is neither in {path.name} nor in shared.toml")
        return file

    defaults = document.get("defaults", dict, {})
    remote = {key: value for key, value in defaults.items() if key in ("architecture", "licence", "negative_prompt")}
    remote["guidance_distilled"] = False
    variants = []
    for row in document.tables("variants"):
        # What is behind an API has no files, latent or sampler of ours: it inherits only what it shares.
        inherited = defaults if row.values.get("runs", "comfyui") == "comfyui" else remote
        variants.append(_variant(Table(_merged(inherited, row.values), row.place), family, licences, find))
    known = tuple(variant.id for variant in variants)
    result = Family(
        id=family,
        name=document.get("name", str),
        maker=document.get("maker", str),
        summary=document.get("summary", str),
        variants=tuple(variants),
        loras=tuple(_lora(row, family, known, find) for row in document.tables("loras")),
        controls=tuple(_control(row, family, known, find) for row in document.tables("controls")),
        files=tuple(files.values()),
    )
    document.done()
    if family != path.stem:
        raise document.fail(f"the file is named for '{path.stem}' but its id is '{family}'")
    return result
