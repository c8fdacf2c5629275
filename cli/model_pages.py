"""What the models commands print: for people as text, for programs as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .tables import columns

if TYPE_CHECKING:
    from ..catalogue import Control, Family, FileSet, Licence, Lora, ModelFile, Sampling, Variant
    from ..packer.holdings import Holding
    from .model_choice import Choice


def plain(value: Any) -> Any:
    """A frozen value of the catalogue as JSON has it."""
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list | frozenset):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def bytes_text(size: int | None, *, exact: bool = True) -> str:
    """``6.94 GB``, ``about 6.9 GB`` for a rounded size, ``size unknown``."""
    if size is None:
        return "size unknown"
    about = "" if exact else "about "
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= limit:
            return f"{about}{size / limit:.2f} {unit}"
    return f"{about}{size} bytes"


def _total(files: Iterable[ModelFile]) -> str:
    files = tuple(files)
    if not files:
        return "-"
    exact = all(file.size_is_exact for file in files)
    return bytes_text(sum(file.size or 0 for file in files), exact=exact)


def list_data(families: Iterable[Family]) -> list[dict[str, Any]]:
    """Families with their variants, shortly."""
    return [
        {
            "id": family.id,
            "name": family.name,
            "maker": family.maker,
            "summary": family.summary,
            "variants": [
                {
                    "id": variant.id,
                    "name": variant.name,
                    "tasks": list(variant.tasks),
                    "runs": variant.runs,
                    "parameters": variant.parameters,
                    "size": sum(file.size or 0 for file in variant.files) or None,
                    "size_is_exact": bool(variant.files) and all(file.size_is_exact for file in variant.files),
                    "licence": {
                        "id": variant.licence.id,
                        "name": variant.licence.name,
                        "url": variant.licence.url,
                        "commercial": variant.licence.commercial,
                    },
                }
                for variant in family.variants
            ],
            "loras": [one.id for one in family.loras],
            "controls": [one.id for one in family.controls],
        }
        for family in families
    ]


def list_text(families: Iterable[Family]) -> str:
    """The same as a table."""
    rows = [("family", "variant", "for", "size", "commercial", "licence")]
    for family in families:
        for one in family.variants:
            size = _total(one.files) if one.files else one.runs
            tasks = ", ".join(one.tasks)
            rows.append((family.id, one.id, tasks, size, one.licence.commercial, one.licence.name))
    return columns(rows)


def show_data(choice: Choice) -> dict[str, Any]:
    """Everything known of what was named."""
    data: dict[str, Any] = {"id": choice.id, "variant": plain(choice.variant)}
    data["loras"] = [plain(one) for one in choice.loras]
    data["controls"] = [plain(one) for one in choice.controls]
    data["files"] = [plain(one) for one in choice.files]
    return data


def show_text(choice: Choice) -> str:
    """The same for people."""
    lines: list[str] = []
    if choice.variant is not None:
        lines += _variant_lines(choice.variant)
    for add_on in choice.add_ons:
        lines += _add_on_lines(add_on)
        if choice.variant is None:
            lines += [*_file_lines(add_on.file), *licence_lines(add_on.licence), *_reasons(add_on)]
    if not choice.add_ons:
        for file in choice.files:
            lines += [file.id, *_file_lines(file), *licence_lines(file.licence)]
    return "\n".join(lines)


def _variant_lines(variant: Variant) -> Iterator[str]:
    yield f"{variant.id}: {variant.name}"
    yield f"  family      {variant.family}, architecture {variant.architecture}"
    yield f"  for         {', '.join(variant.tasks)}"
    if variant.parameters:
        yield f"  parameters  {variant.parameters / 1e9:.1f} billion"
    runs = {"comfyui": f"in ComfyUI {variant.comfyui} and later", "remote": "behind an API"}
    yield f"  runs        {runs.get(variant.runs, 'with a node pack or server of a third party')}"
    if variant.text_encoder:
        yield f"  encoders    {', '.join(variant.text_encoders)} (loader type {variant.text_encoder})"
    if variant.latent:
        latent = variant.latent
        yield f"  latent      {latent.channels} channels, 1/{latent.downscale}, {latent.node or latent.source}"
    if variant.resolution:
        rule = variant.resolution
        sizes = " ".join(f"{width}x{height}" for width, height in rule.sizes)
        yield f"  size        {rule.width}x{rule.height}, multiples of {rule.multiple}" + (
            f"; {sizes}" if sizes else ""
        )
    if variant.sampling:
        yield f"  settings    {_settings(variant.sampling)}"
        negative = "it has an effect" if variant.negative_prompt and variant.sampling.cfg != 1 else "it does nothing"
        yield f"  negative    {negative}"
        yield f"  from        {variant.sampling.source}"
    for note in variant.notes:
        yield f"  note        {note}"
    yield from licence_lines(variant.licence)
    for number, one in enumerate(variant.file_sets):
        yield f"  {'recommended' if not number else 'or'}: {one.name}, {_total(one.files)}, {', '.join(one.loaders)}"
        for file in one.files:
            yield from _file_lines(file)
    if variant.optional:
        yield "  optional:"
        for file in variant.optional:
            yield from _file_lines(file)
    yield from _reasons(variant)


def _settings(sampling: Sampling) -> str:
    low, high = sampling.steps_range
    steps = f"{sampling.steps} steps" + (f" ({low} to {high})" if low != high else "")
    parts = [f"{sampling.sampler} {sampling.scheduler}", steps, f"cfg {sampling.cfg:g}"]
    for name in ("cfg2", "guidance", "shift", "cfg_norm"):
        value = getattr(sampling, name)
        if value is not None:
            parts.append(f"{name} {value:g}" + (f" ({sampling.shift_node})" if name == "shift" else ""))
    return ", ".join(parts)


def _add_on_lines(add_on: Lora | Control) -> Iterator[str]:
    kinds = getattr(add_on, "kinds", None)
    what = f"control ({', '.join(kinds)})" if kinds else "LoRA"
    yield f"  {what} {add_on.id}: {add_on.name}, {bytes_text(add_on.file.size, exact=add_on.file.size_is_exact)}"
    changes = ", ".join(f"{name} {value}" for name, value in add_on.sampling.items())
    yield f"    for {', '.join(add_on.variants)} at strength {add_on.strength:g}" + (f"; {changes}" if changes else "")


def _file_lines(file: ModelFile) -> Iterator[str]:
    size = bytes_text(file.size, exact=file.size_is_exact)
    parts = [file.role, size, *([file.precision] if file.precision else []), *(["gated"] if file.gated else [])]
    yield f"    {file.path}  ({', '.join(parts)})"
    yield f"      {file.url or file.absent.get('url', 'no address is known')}"
    for mirror in file.mirrors:
        yield f"      mirror {mirror}"
    yield f"      sha256 {file.sha256 or 'not known: ' + file.absent.get('sha256', 'nobody states it')}"
    if file.licence.commercial != "yes":
        yield f"      licence {file.licence.name} (commercial use: {file.licence.commercial})"
    if file.note:
        yield f"      note {file.note}"
    for place, why in file.unverified.items():
        yield f"      not verified: {place}: {why}"


def licence_lines(licence: Licence) -> Iterator[str]:
    """A licence as far as it concerns someone who is about to use the model."""
    yield f"  licence     {licence.name}: {licence.url}"
    yield f"    commercial use: {licence.commercial}; {licence.conditions}"
    yield f"    pictures: {licence.outputs}"
    if licence.territory != "worldwide":
        yield f"    territory: {licence.territory}"
    for place, why in licence.unverified.items():
        yield f"    not verified: {place}: {why}"


def _reasons(entry: Variant | Lora | Control) -> Iterator[str]:
    for place, why in entry.unverified.items():
        yield f"  not verified: {place}: {why}"
    for place, why in getattr(entry, "absent", {}).items():
        yield f"  no {place}: {why}"


def where_data(choice: Choice, found: Iterable[Holding]) -> dict[str, Any]:
    """What is here, and which variants it can load."""
    states = {one.file.id: one for one in found}
    return {
        "id": choice.id,
        "files": [one.to_json() for one in states.values()],
        "variants": [
            {
                "id": variant.id,
                "ready": [one.name for one in variant.file_sets if not _lacking(one, states)],
                "missing": [file.id for file in _lacking(_nearest(variant, states), states)],
            }
            for variant in choice.variants
            if variant.file_sets
        ],
    }


def where_text(choice: Choice, found: Iterable[Holding]) -> str:
    """The same for people: file by file, and for all variants at once only what is not simply missing."""
    states = {one.file.id: one for one in found}
    many = len(choice.variants) > 1
    rows = [("state", "role", "file", "")]
    for one in states.values():
        if many and one.state == "missing":
            continue
        size = bytes_text(one.file.size, exact=one.file.size_is_exact)
        more = size if one.path is None else f"{one.path}{': ' if one.reason else ''}{one.reason}"
        state = "here, checked" if one.checked and one.state == "here" else one.state
        rows.append((state, one.file.role, one.file.name, more))
    lines = [columns(rows)] if len(rows) > 1 else []
    for variant in choice.variants:
        ready = [one.name for one in variant.file_sets if not _lacking(one, states)]
        nearest = _nearest(variant, states)
        if ready:
            lines.append(f"{variant.id}: ready ({'; '.join(ready)})")
        elif nearest is not None:
            missing = _lacking(nearest, states)
            if many and len(missing) == len(nearest.files):
                continue
            remedy = f"atelier models get {variant.id}"
            if nearest is not variant.file_sets[0]:
                remedy += f' --set "{nearest.name}"'
            lines.append(f"{variant.id}: lacks {', '.join(file.name for file in missing)}; `{remedy}`")
    if many:
        lines.append(f"{sum(one.state == 'missing' for one in states.values())} of {len(states)} files are not here")
    return "\n".join(lines)


def _lacking(file_set: FileSet | None, states: Mapping[str, Holding]) -> list[ModelFile]:
    files = file_set.files if file_set else ()
    return [file for file in files if states[file.id].state not in ("here", "unsure")]


def _nearest(variant: Variant, states: Mapping[str, Holding]) -> FileSet | None:
    """The way to load it that lacks least; the recommended one where nothing is here."""
    begun = [one for one in variant.file_sets if len(_lacking(one, states)) < len(one.files)]
    return min(begun or variant.file_sets[:1], key=lambda one: len(_lacking(one, states)), default=None)
