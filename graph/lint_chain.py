"""What a sampler is fed with, as far as lint needs it: model, add-ons, encoders, VAE, size and settings.

File names are looked up in the catalogue. A name proves nothing, so what is unknown stays unknown and raises nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from ..catalogue import Catalogue, Control, Detection, Lora, ModelFile, Variant
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
        folder = MODEL_INPUTS.get(ref.input)
        value = self.trace.value(ref) if folder else None
        if folder is None or not isinstance(value, str) or "." not in value:
            return None
        files = self._catalogue.find_by_name(value)
        uses = tuple({use.id: use for file in files for use in self._catalogue.uses(file)}.values())
        detection = self._detect(folder, value) if self._detect else None
        return UsedFile(ref=ref, name=value, folder=folder, files=files, uses=uses, detection=detection)

    def _is_sampler(self, node_id: str) -> bool:
        inputs = self.trace.inputs(node_id)
        kinds = {kind for spec in inputs.values() for kind in spec.types}
        return "LATENT" in self.trace.outputs(node_id) and "LATENT" in kinds and bool({"MODEL", "GUIDER"} & kinds)

    def _chain(self, sampler: str) -> Chain:
        parts = self.trace.sampler_parts(sampler)
        models = list(dict.fromkeys(n for part in parts for n in self._along(part, "MODEL")))
        loader = next((used for n in reversed(models) for used in self._files_of(n, {"ckpt_name", "unet_name"})), None)
        texts = [
            (part, name, encoder)
            for part in parts
            for name, spec in self.trace.inputs(part).items()
            if "CONDITIONING" in spec.types
            for encoder in self.trace.encoders(InputRef(part, name))
        ]
        return Chain(
            sampler=sampler,
            model=loader,
            variants=self._variants(models, loader),
            loras=tuple(self._loras(models)),
            controls=tuple(self._controls(parts)),
            encoders=tuple(dict.fromkeys(encoder for _, _, encoder in texts)),
            vaes=tuple(self._vaes(sampler)),
            size=self._size(sampler),
            cfg=self._setting(parts, "cfg"),
            steps=self._setting(parts, "steps"),
            negative=tuple(self._negatives(texts)),
        )

    def _along(self, node_id: str, kind: str) -> Iterator[str]:
        for name, spec in self.trace.inputs(node_id).items():
            if kind in spec.types:
                yield from self.trace.sources(InputRef(node_id, name), kind)

    def _files_of(self, node_id: str, names: set[str]) -> Iterator[UsedFile]:
        for name in self.trace.inputs(node_id):
            used = self.used_file(InputRef(node_id, name)) if name in names else None
            if used is not None:
                yield used

    def _variants(self, models: list[str], loader: UsedFile | None) -> tuple[Variant, ...]:
        """What the model can be: what a loader of ours says, what the header says, what the file name says."""
        for node_id in models:
            told = self.trace.value(InputRef(node_id, "variant"))
            found = [v for v in self._catalogue.variants if v.id == told] if isinstance(told, str) else []
            if found:
                return tuple(found)
        if loader is None:
            return ()
        if loader.detection and loader.detection.variants:
            return tuple(v for v in self._catalogue.variants if v.id in loader.detection.variants)
        return loader.variants

    def _loras(self, models: list[str]) -> Iterator[AddOn]:
        for node_id in models:
            for used in self._files_of(node_id, {"lora_name"}):
                yield AddOn(file=used, strength=self.trace.value(InputRef(node_id, "strength_model")))

    def _controls(self, parts: set[str]) -> Iterator[AddOn]:
        seen: set[str] = set()
        for part in sorted(parts):
            for node_id in self._along(part, "CONDITIONING"):
                for name, spec in self.trace.inputs(node_id).items():
                    if "CONTROL_NET" in spec.types and node_id not in seen:
                        seen.add(node_id)
                        for source in self.trace.sources(InputRef(node_id, name), "CONTROL_NET"):
                            for used in self._files_of(source, {"control_net_name"}):
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
                yield from self._files_of(source, {"vae_name"})

    def _size(self, sampler: str) -> tuple[str, int, int] | None:
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
        return None

    def _takes_picture(self, node_id: str) -> bool:
        node = self.trace.prompt.nodes[node_id]
        inputs = self.trace.inputs(node_id)
        return any(isinstance(node.inputs.get(n), Link) and s.types & {"IMAGE", "LATENT"} for n, s in inputs.items())

    def _setting(self, parts: set[str], name: str) -> Setting | None:
        """A setting that is said once; None where no part says it or two say different things."""
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
