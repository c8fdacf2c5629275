"""What a sampler is fed with, as far as lint needs it: model, add-ons, encoders, VAE, size and settings.

File names are looked up in the catalogue. A name proves nothing, so what is unknown stays unknown and raises nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cached_property

from ..catalogue import Catalogue, Control, Detection, Lora, ModelFile, Variant
from ..catalogue.loaders import loader
from . import lint_pack
from .files import MODEL_INPUTS
from .jsontext import JSON
from .prompt import InputRef, Link
from .tracing import Trace

Detect = Callable[[str, str], Detection | None]
"""(folder below models/, file name) -> what the file's header says; None where the file is not at hand."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UsedFile:
    """A file that a node names, with what is known of it: the catalogue's entries of that name, what uses them."""

    ref: InputRef
    name: str
    folder: str
    files: tuple[ModelFile, ...] = ()
    uses: tuple[Variant | Lora | Control, ...] = ()
    detection: Detection | None = None

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The variants that the file is part of, helpers (a depth model for the control picture) left out."""
        mine = {file.id for file in self.files}
        return tuple(
            use
            for use in self.uses
            if isinstance(use, Variant) and any(file.id in mine for one in use.file_sets for file in one.files)
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """A value and the input that it decides; ``value`` is None where it is computed."""

    ref: InputRef
    value: JSON


@dataclass(frozen=True, kw_only=True, slots=True)
class AddOn:
    """A LoRA or ControlNet on the way, with the strength it is used at."""

    file: UsedFile
    strength: JSON


@dataclass(frozen=True, kw_only=True, slots=True)
class Chain:
    """One sampler and everything that decides what it makes.

    Attributes:
        variants: what the model can be; empty where that is unknown.
        size: of the empty latent that the sampler starts from: (node, width, height); None where it starts from a
            picture or another stage.
        negative: the texts of its negative conditioning, with their inputs.
    """

    sampler: str
    model: UsedFile | None
    variants: tuple[Variant, ...]
    loras: tuple[AddOn, ...]
    controls: tuple[AddOn, ...]
    encoders: tuple[str, ...]
    vaes: tuple[UsedFile, ...]
    size: tuple[str, int, int] | None
    cfg: Setting | None
    steps: Setting | None
    negative: tuple[InputRef, ...]

    @property
    def architectures(self) -> frozenset[str]:
        """The architectures that the model can have."""
        return frozenset(variant.architecture for variant in self.variants)


class Chains:
    """Reads the sampling chains of a prompt."""

    def __init__(self, trace: Trace, catalogue: Catalogue, detect: Detect | None = None) -> None:
        self.trace = trace
        self._catalogue = catalogue
        self._detect = detect
        self._samplers = [n for n in trace.live if self._is_sampler(n)]

    def __iter__(self) -> Iterator[Chain]:
        return (self._chain(node_id) for node_id in self._samplers)

    @property
    def catalogue_variants(self) -> tuple[Variant, ...]:
        """Every variant of the catalogue."""
        return self._catalogue.variants

    def used_files(self) -> Iterator[UsedFile]:
        """Every file of weights that a running node names."""
        for node_id in self.trace.live:
            for name in self.trace.inputs(node_id):
                used = self.used_file(InputRef(node_id, name))
                if used is not None:
                    yield used

    def used_file(self, ref: InputRef) -> UsedFile | None:
        """What is known of the file that an input names; None where it names none."""
        folders = lint_pack.file_folders(self.trace.prompt.nodes[ref.node].class_type, ref.input)
        if not folders and ref.input in MODEL_INPUTS:
            folders = (MODEL_INPUTS[ref.input],)
        value = self.trace.value(ref) if folders else None
        if not isinstance(value, str) or "." not in value:
            return None
        files = self._catalogue.find_by_name(value)
        uses = tuple({use.id: use for file in files for use in self._catalogue.uses(file)}.values())
        headers = ((folder, self._detect(folder, value)) for folder in folders) if self._detect else ()
        folder, detection = next(((one, found) for one, found in headers if found is not None), (folders[0], None))
        return UsedFile(ref=ref, name=value, folder=folder, files=files, uses=uses, detection=detection)

    def _is_sampler(self, node_id: str) -> bool:
        inputs = self.trace.inputs(node_id)
        kinds = {kind for spec in inputs.values() for kind in spec.types}
        return "LATENT" in self.trace.outputs(node_id) and "LATENT" in kinds and bool({"MODEL", "GUIDER"} & kinds)

    def _chain(self, sampler: str) -> Chain:
        parts = self.trace.sampler_parts(sampler)
        models = list(dict.fromkeys(n for part in parts for n in self._along(part, "MODEL")))
        loaders = ((n, lint_pack.model_inputs(self._class(n))) for n in reversed(models))
        model = next((used for n, names in loaders for used in self._files_of(n, names)), None)
        variants = self._variants(models, model)
        texts = [
            (part, name, encoder)
            for part in parts
            for name, spec in self.trace.inputs(part).items()
            if "CONDITIONING" in spec.types
            for encoder in self.trace.encoders(InputRef(part, name))
        ]
        return Chain(
            sampler=sampler,
            model=model,
            variants=variants,
            loras=tuple(self._loras(models)),
            controls=tuple(self._controls(parts)),
            encoders=tuple(dict.fromkeys(encoder for _, _, encoder in texts)),
            vaes=tuple(self._vaes(sampler)),
            size=self._size(sampler, variants),
            cfg=self._setting(parts, "cfg", sampler, variants),
            steps=self._setting(parts, "steps", sampler, variants),
            negative=tuple(self._negatives(texts)),
        )

    def _along(self, node_id: str, kind: str) -> Iterator[str]:
        for name, spec in self.trace.inputs(node_id).items():
            if kind in spec.types:
                yield from self.trace.sources(InputRef(node_id, name), kind)

    def _files_of(self, node_id: str, names: Collection[str]) -> Iterator[UsedFile]:
        for name in self.trace.inputs(node_id):
            used = self.used_file(InputRef(node_id, name)) if name in names else None
            if used is not None:
                yield used

    def _class(self, node_id: str) -> str:
        return self.trace.prompt.nodes[node_id].class_type

    def _variants(self, models: list[str], model: UsedFile | None) -> tuple[Variant, ...]:
        """What the model can be: what a loader of ours says, what the header says, what the file name says."""
        for node_id in models:
            told = lint_pack.told_variant(self.trace, node_id, self._catalogue)
            if told is not None:
                return (told,)
        if model is None:
            return ()
        spec = loader(self._class(model.ref.node))
        if spec is not None:
            return lint_pack.automatic_variants(spec, model.name, model.detection, model.variants)
        if model.detection and model.detection.variants:
            return tuple(v for v in self._catalogue.variants if v.id in model.detection.variants)
        return model.variants

    def settings_variants(self, node_id: str) -> tuple[Variant, ...]:
        """Whose settings reach a node of ours: of the loader or the Recommended Settings at the wire's start."""
        for source in reversed(lint_pack.settings_nodes(self.trace, node_id)):
            told = lint_pack.told_variant(self.trace, source, self._catalogue)
            if told is not None:
                return (told,)
            used = next(iter(self._files_of(source, lint_pack.model_inputs(self._class(source)))), None)
            if used is not None:
                return self._variants([], used)
        return ()

    def _loras(self, models: list[str]) -> Iterator[AddOn]:
        for node_id in models:
            strengths = lint_pack.lora_strengths(self._class(node_id))
            for used in self._files_of(node_id, frozenset(strengths)):
                strength = self.trace.value(InputRef(node_id, strengths[used.ref.input]))
                yield AddOn(file=used, strength=strength)

    def _controls(self, parts: set[str]) -> Iterator[AddOn]:
        seen: set[str] = set()
        for part in sorted(parts):
            for node_id in self._along(part, "CONDITIONING"):
                for used in self._files_of(node_id, {"control"}) if node_id not in seen else ():
                    seen.add(node_id)
                    yield AddOn(file=used, strength=self.trace.value(InputRef(node_id, "strength")))
                for name, spec in self.trace.inputs(node_id).items():
                    if "CONTROL_NET" in spec.types and node_id not in seen:
                        seen.add(node_id)
                        for source in self.trace.sources(InputRef(node_id, name), "CONTROL_NET"):
                            for used in self._files_of(source, {"control_net_name", "controlnet"}):
                                yield AddOn(file=used, strength=self.trace.value(InputRef(node_id, "strength")))

    @cached_property
    def _decoders(self) -> dict[str, list[str]]:
        """For each sampler the nodes that decode what it makes, and nothing that another sampler makes of it."""
        samplers = set(self._samplers)
        found: dict[str, list[str]] = {}
        for node_id in self.trace.live:
            inputs = self.trace.inputs(node_id)
            if "vae" in inputs and "samples" in inputs and "LATENT" not in self.trace.outputs(node_id):
                back = self.trace.latent_sources(InputRef(node_id, "samples"))
                nearest = next((n for n in back if n in samplers), None)
                if nearest is not None:
                    found.setdefault(nearest, []).append(node_id)
        return found

    def _vaes(self, sampler: str) -> Iterator[UsedFile]:
        """The VAEs that decode what the sampler makes."""
        for node_id in self._decoders.get(sampler, ()):
            for source in self.trace.sources(InputRef(node_id, "vae"), "VAE"):
                yield from self._files_of(source, {"vae_name", "vae"})

    def _size(self, sampler: str, variants: tuple[Variant, ...]) -> tuple[str, int, int] | None:
        for name, spec in self.trace.inputs(sampler).items():
            link = self.trace.prompt.nodes[sampler].inputs.get(name)
            if "LATENT" not in spec.types or not isinstance(link, Link):
                continue
            source = self.trace.settled(link).node
            if self._takes_picture(source):
                return None  # another stage, an upscaled latent or a picture: not what the model starts from
            width, height = (self.trace.value(InputRef(source, side)) for side in ("width", "height"))
            if isinstance(width, int) and isinstance(height, int):
                return source, width, height
            if self._class(source) == lint_pack.EMPTY_LATENT:
                size = lint_pack.latent_size(self.trace, source, self.settings_variants(source) or variants)
                return (source, *size) if size else None
        return None

    def _takes_picture(self, node_id: str) -> bool:
        node = self.trace.prompt.nodes[node_id]
        inputs = self.trace.inputs(node_id)
        return any(isinstance(node.inputs.get(n), Link) and s.types & {"IMAGE", "LATENT"} for n, s in inputs.items())

    def _setting(self, parts: set[str], name: str, sampler: str, variants: tuple[Variant, ...]) -> Setting | None:
        """A setting that is said once; None where no part says it or two say different things.

        A sampler of ours takes it from its settings: what was changed on the way, else what the model recommends.
        """
        if any(lint_pack.SETTINGS in spec.types for spec in self.trace.inputs(sampler).values()):
            changed = lint_pack.changed_setting(self.trace, sampler, name)
            if changed is not None:
                return Setting(ref=self.trace.literal(changed) or changed, value=self.trace.value(changed))
            value = lint_pack.recommended(self.settings_variants(sampler) or variants, name)
            return None if value is None else Setting(ref=InputRef(sampler, "settings"), value=value)
        said = [
            (part, self.trace.value(InputRef(part, name))) for part in sorted(parts) if name in self.trace.inputs(part)
        ]
        if not said or any(value != said[0][1] for _, value in said):
            return None
        ref = InputRef(said[0][0], name)
        return Setting(ref=self.trace.literal(ref) or ref, value=said[0][1])

    def _negatives(self, texts: list[tuple[str, str, str]]) -> Iterator[InputRef]:
        """The texts that only negative inputs have."""
        positive = {encoder for _, name, encoder in texts if not name.startswith("negative")}
        for _, name, encoder in texts:
            if name.startswith("negative") and encoder not in positive:
                for input_name, spec in self.trace.inputs(encoder).items():
                    if spec.type == "STRING":
                        yield from self.trace.texts(InputRef(encoder, input_name))
