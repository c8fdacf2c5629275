"""`pack`: a workflow with everything it needs named or enclosed, as one bundle."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..graph import GraphError, NodeSchemas, Workflow, with_widget_options
from ..graph.interface import Interface
from ..graph.interface_overrides import apply_overrides
from . import atelier, manifest
from .archive import write_archive
from .atelier import AtelierManifest, UnresolvedModel, tool_name
from .automatic import automatic_refs, expected_models
from .bundle import INPUT, PROMPT, WORKFLOW, Bundle
from .environment import Environment, read_environment
from .errors import MissingFile
from .fields import JSON, stable_json
from .folders import ModelFolders
from .hashes import HashCache, hash_files
from .inputs import InputFile, checked_files, find_inputs
from .manifest import Model, Snapshot
from .models import LocatedModel, StatedModel, locate_models, missing_model, model_refs, stated_models
from .names import shown
from .sources import model_licences, offline_source, online_source, stated_source

PackProgress = Callable[[float, float | None, str | None], None]
"""Called with (bytes done, bytes of all, what is being done); from any thread, one call at a time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Options:
    """Where to look, and what to insist on; see `pack`."""

    comfyui_dir: Path | None
    comfyui_python: Path | None
    base_directory: Path | None
    models_dirs: tuple[Path, ...]
    extra_model_paths: tuple[Path, ...]
    input_dirs: tuple[Path, ...]
    allow_missing_models: bool
    everything: bool
    online: bool
    cache: HashCache
    progress: PackProgress | None


@dataclass(frozen=True, kw_only=True, slots=True)
class PackReport:
    """What `pack` wrote. ``notes`` say in words what could not be recorded."""

    path: Path
    size: int
    sha256: str
    nodes: int
    members: tuple[str, ...]
    snapshot: Snapshot
    manifest: AtelierManifest

    @property
    def inputs(self) -> tuple[str, ...]:
        """The enclosed input files, by name."""
        return tuple(name.removeprefix(INPUT) for name in self.members if name.startswith(INPUT))

    @property
    def models(self) -> tuple[Model, ...]:
        """The models named."""
        return self.snapshot.models

    @property
    def notes(self) -> tuple[str, ...]:
        """What the bundle's user should know, in words."""
        return self.manifest.notes

    def to_json(self) -> dict[str, JSON]:
        """For ``--json``."""
        return {
            "path": str(self.path),
            "size": self.size,
            "nodes": self.nodes,
            "sha256": self.sha256,
            "members": list(self.members),
            "models": [model.to_json() for model in self.snapshot.models],
            "unresolved_models": [model.to_json() for model in self.manifest.unresolved_models],
            "node_packs": [pack.to_json() for pack in self.snapshot.node_packs],
            "licences": [licence.to_json() for licence in self.manifest.licences],
            "notes": list(self.notes),
        }


def pack(
    source: Bundle | str | Path,
    out: str | Path,
    *,
    schemas: NodeSchemas | None = None,
    comfyui_dir: str | Path | None = None,
    comfyui_python: str | Path | None = None,
    base_directory: str | Path | None = None,
    models_dirs: Iterable[str | Path] = (),
    extra_model_paths: Iterable[str | Path] = (),
    input_dirs: Iterable[str | Path] = (),
    allow_missing_models: bool = False,
    everything: bool = False,
    online: bool = False,
    params: Sequence[str] = (),
    hide: Sequence[str] = (),
    rename: Sequence[str] = (),
    cache: HashCache | None = None,
    progress: PackProgress | None = None,
) -> PackReport:
    """Write ``source`` (a workflow, a prompt, a picture of ComfyUI's, or a bundle) as the bundle ``out``.

    The same workflow, models and ComfyUI give the same bytes, whenever and wherever that is. ``out`` appears whole or
    not at all; a file that is there is replaced.

    Args:
        schemas: node schemas; those of the newest known ComfyUI where not given.
        comfyui_dir: ComfyUI's checkout: its version, node packs, models and input folder.
        comfyui_python: the Python that runs it; else the checkout's ``.venv`` or ``venv``.
        base_directory: what it is started with as ``--base-directory``.
        models_dirs, extra_model_paths: further ``models`` folders and ``extra_model_paths.yaml`` files.
        input_dirs: folders of input files, besides the workflow's own, ``input`` beside it, and ComfyUI's.
        allow_missing_models: record a model that is nowhere as far as the workflow tells of it, instead of failing.
        everything: record all node packs and pip packages, not only those that the prompt reaches.
        online: ask Hugging Face and Civitai for sources that are not known offline.
        params, hide, rename: changes to the interface (see `graph.apply_overrides`).
        cache: remembers hashes; the user's cache file where not given.

    Raises:
        MissingFile: a model or an input file that the prompt reads is nowhere: names it, the folders searched, and what
            to do.
        PackerError, GraphError: the source is wrong, or ``out`` cannot be written.
    """
    options = _Options(
        comfyui_dir=_path(comfyui_dir),
        comfyui_python=_path(comfyui_python),
        base_directory=_path(base_directory),
        models_dirs=tuple(map(Path, models_dirs)),
        extra_model_paths=tuple(map(Path, extra_model_paths)),
        input_dirs=tuple(map(Path, input_dirs)),
        allow_missing_models=allow_missing_models,
        everything=everything,
        online=online,
        cache=cache or HashCache(),
        progress=progress,
    )
    if not isinstance(source, Bundle):
        source = Bundle.open(source, schemas=schemas, input_dirs=options.input_dirs)
    schemas = schemas if schemas is not None else source.schemas
    place = str(source.path) if source.path else None
    try:
        inputs = _inputs(source, options, schemas)
        models, unresolved, notes = _models(source, options, schemas)
        interface = _interface(replace(source, inputs=inputs), params, hide, rename)
        environment = read_environment(
            source.prompt,
            schemas,
            workflow=source.workflow,
            comfyui_dir=options.comfyui_dir,
            comfyui_python=options.comfyui_python,
            base_directory=options.base_directory,
            everything=options.everything,
        )
    except GraphError as error:
        raise error.at(file=place) from error.__cause__
    except MissingFile as error:
        raise error.at(file=place) from error.__cause__
    snapshot = _snapshot(source, environment, models)
    members: dict[str, bytes | Path] = {
        manifest.MEMBER: stable_json(snapshot.to_json()),
        PROMPT: stable_json(with_widget_options(source.prompt, schemas).to_json()),
    }
    if source.workflow is not None:
        members[WORKFLOW] = stable_json(source.workflow.to_json())
    for name, file in inputs.items():
        members[INPUT + name] = file.path if file.path is not None else file.read()
    hashes = {name: _sha256(content, inputs, name) for name, content in members.items()}
    stated = AtelierManifest(
        members=hashes,
        interface=interface,
        classes=tuple(sorted({node.class_type for node in source.prompt.nodes.values()})),
        licences=model_licences(models),
        unresolved_models=unresolved,
        comfyui_version=environment.comfyui_version,
        notes=(*environment.notes, *notes),
        tool=tool_name(),
    )
    members[atelier.MEMBER] = stable_json(stated.to_json())
    out = Path(out)
    write_archive(out, members, sha256=hashes, progress=_writing(progress))
    return PackReport(
        path=out,
        size=out.stat().st_size,
        sha256=_file_sha256(out),
        nodes=len(source.prompt.nodes),
        members=tuple(sorted(members)),
        snapshot=snapshot,
        manifest=stated,
    )


def _path(value: str | Path | None) -> Path | None:
    return None if value is None else Path(value)


def _interface(source: Bundle, params: Sequence[str], hide: Sequence[str], rename: Sequence[str]) -> Interface:
    if not (params or hide or rename):
        return source.interface
    return apply_overrides(
        source.interface, params=params, hide=hide, rename=rename, prompt=source.prompt, schemas=source.schemas
    )


def _writing(progress: PackProgress | None) -> Callable[[str, int, int], None] | None:
    if progress is None:
        return None
    return lambda name, done, total: progress(done, total, f"writing {name}")


def _inputs(source: Bundle, options: _Options, schemas: NodeSchemas) -> dict[str, InputFile]:
    """The input files that the prompt reads; an error names the first that is nowhere."""
    checked_files(source.prompt, schemas)
    folders = list(options.input_dirs)
    if source.path is not None and source.archive is None:
        folders[:0] = [source.path.parent, source.path.parent / "input"]
    folders += [folder / "input" for folder in (options.base_directory, options.comfyui_dir) if folder is not None]
    found, missing = find_inputs(source.prompt, schemas, folders, have=source.inputs)
    if missing:
        first = missing[0]
        node = source.prompt.nodes[first.ref.node]
        where = ", ".join(str(folder) for folder in folders) or "any folder, since none was named"
        raise MissingFile(
            f"node {first.ref.node} ({node.class_type}), input '{first.ref.input}': "
            f"the input file {shown(first.name)} is not in {where}",
            remedy="put it beside the workflow, or name its folder with --input-dir",
        )
    return found


def _models(
    source: Bundle, options: _Options, schemas: NodeSchemas
) -> tuple[tuple[Model, ...], tuple[UnresolvedModel, ...], list[str]]:
    stated = _stated(source.workflow)
    hints = {model.name: model.directory for model in stated if model.directory}
    folders = ModelFolders.of(
        comfyui_dir=options.comfyui_dir,
        base_directory=options.base_directory,
        models_dirs=options.models_dirs,
        extra_model_paths=options.extra_model_paths,
    )
    chosen = automatic_refs(source.prompt, schemas, folders)
    stated = (*stated, *expected_models(chosen))
    located = locate_models((*model_refs(source.prompt, schemas), *chosen), folders, hints)
    paths = [model.found.path for model in located if model.found]
    report = options.progress
    hashes = hash_files(
        paths,
        cache=options.cache,
        progress=(lambda path, done, total: report(done, total, f"hashing {path.name}")) if report else None,
    )
    known = {model.filename: model for model in source.snapshot.models} if source.snapshot else {}
    models, unresolved, notes = [], [], []
    for one in located:
        entries = [entry for entry in stated if entry.name in {ref.name for ref in one.refs}]
        if one.found is not None:
            models.append(
                _recorded(one, hashes[one.found.path], one.found.path.stat().st_size, entries, known, options)
            )
        elif one.filename in known:
            models.append(known[one.filename])  # packing a bundle again, without its models at hand
        elif not options.allow_missing_models:
            raise missing_model(one, folders, next((entry.url for entry in entries if entry.url), None))
        else:
            entry = next((entry for entry in entries if entry.sha256), None)
            if entry is not None and entry.sha256 is not None:
                models.append(_recorded(one, entry.sha256, None, entries, known, options))
            else:
                url = next((entry.url for entry in entries if entry.url), None)
                unresolved.append(_unresolved(one, url))
            notes.append(f"the model {shown(one.filename)} was not there when this was packed")
    return tuple(models), tuple(unresolved), notes


def _unresolved(one: LocatedModel, url: str | None) -> UnresolvedModel:
    ref = one.refs[0].ref
    return UnresolvedModel(filename=one.filename, node=ref.node, input=ref.input, url=url)


def _recorded(
    one: LocatedModel,
    sha256: str,
    size: int | None,
    entries: list[StatedModel],
    known: Mapping[str, Model],
    options: _Options,
) -> Model:
    source = offline_source(sha256, entries)
    before = known.get(one.filename)
    if source is None and before is not None and before.sha256 == sha256:
        source = before.source
    if options.online and not stated_source(sha256, entries)[1]:
        source = online_source(sha256, source) or source
    return Model(filename=one.filename, sha256=sha256, size=size, source=source)


def _stated(workflow: Workflow | None) -> tuple[StatedModel, ...]:
    if workflow is None:
        return ()
    nodes = [*workflow.nodes, *(node for subgraph in workflow.subgraphs.values() for node in subgraph.nodes)]
    return stated_models(node.raw for node in nodes)


def _snapshot(source: Bundle, environment: Environment, models: tuple[Model, ...]) -> Snapshot:
    """The snapshot; what an older bundle said stays where nothing newer is known."""
    before = source.snapshot or Snapshot()
    has_comfyui = environment.comfyui_commit is not None
    return Snapshot(
        comfyui=environment.comfyui_commit or before.comfyui,
        git_node_packs=environment.git_node_packs or (() if has_comfyui else before.git_node_packs),
        registry_node_packs=environment.registry_node_packs or (() if has_comfyui else before.registry_node_packs),
        file_node_packs=environment.file_node_packs or (() if has_comfyui else before.file_node_packs),
        pips=environment.pips or (() if has_comfyui else before.pips or ()),
        python=before.python if source.snapshot and not has_comfyui else environment.python,
        models=models,
        extra=before.extra,
    )


def _sha256(content: bytes | Path, inputs: Mapping[str, InputFile], name: str) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    return inputs[name.removeprefix(INPUT)].sha256


def _file_sha256(path: Path) -> str:
    return InputFile(name=path.name, path=path).sha256
