"""The files that our own loaders take where a widget says ``automatic``: as they choose, by the files' headers."""

from __future__ import annotations

from collections.abc import Iterator

from ..catalogue import ChoiceError, Detection, HeaderError, detect, load
from ..catalogue.choice import Files, Part, choose, parts_by_name
from ..catalogue.loaders import AUTOMATIC, LoaderSpec, loader
from ..graph import InputRef, NodeSchemas, Prompt
from .folders import ModelFolders
from .models import ModelRef, StatedModel, literal, reached_nodes

_ENDINGS = (".safetensors", ".sft")


def automatic_refs(prompt: Prompt, schemas: NodeSchemas, folders: ModelFolders) -> tuple[ModelRef, ...]:
    """A reference for each text encoder, VAE or other part that a loader of ours would choose by itself.

    Where no file fits, the catalogue's own file for that part is named, so that it counts as missing. A loader whose
    model is not there and has no name of the catalogue's adds nothing.
    """
    there = _Headers(folders)
    found: list[ModelRef] = []
    for node_id in reached_nodes(prompt, schemas):
        node = prompt.nodes[node_id]
        spec = loader(node.class_type)
        if spec is None:
            continue
        values = {name: literal(prompt, given) for name, given in node.inputs.items()}
        for part in _parts(spec, values, there):
            if values.get(part.input, AUTOMATIC) == AUTOMATIC:
                ref = InputRef(node_id, part.input)
                found.append(ModelRef(ref=ref, class_type=node.class_type, name=part.name, folders=(part.folder,)))
    return tuple(found)


def expected_models(refs: tuple[ModelRef, ...]) -> Iterator[StatedModel]:
    """What the catalogue states of the files that loaders of ours would choose."""
    for ref in refs:
        for file in load().find_by_name(ref.name):
            if file.folder in ref.folders and file.sha256 is not None:
                yield StatedModel(name=ref.name, url=file.url, sha256=file.sha256, directory=file.folder)


def _parts(spec: LoaderSpec, values: dict[str, object], there: _Headers) -> tuple[Part, ...]:
    try:
        return choose(spec, values, there.files, or_expected=True).parts
    except ChoiceError:
        # The model is not there, or the loader refuses it: `model` is a reference of its own and says so.
        return parts_by_name(spec, values)


class _Headers:
    """What lies in the folders, each read once and only when asked for."""

    def __init__(self, folders: ModelFolders) -> None:
        self._folders = folders
        self._known: dict[str, dict[str, tuple[str, Detection]]] = {}

    def files(self, keys: tuple[str, ...]) -> Files:
        """Name -> (folder, what the header says); of one name in two folders, the first folder's."""
        found: dict[str, tuple[str, Detection]] = {}
        for key in keys:
            if key not in self._known:
                self._known[key] = dict(self._read(key))
            found = self._known[key] | found
        return found

    def _read(self, key: str) -> Iterator[tuple[str, tuple[str, Detection]]]:
        for name in dict.fromkeys(self._folders.list(key)):
            model = self._folders.find(key, name) if name.endswith(_ENDINGS) else None
            if model is not None:
                try:
                    yield name, (key, detect(model.path))
                except HeaderError:
                    continue  # damaged or still downloading: the loader does not offer it
