"""Which files a loader takes: decided from headers, before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from .catalogue import load
from .detection import KIND_IN_WORDS, Detection
from .entries import ModelFile, Variant
from .errors import ChoiceError
from .loaders import AUTOMATIC, ENCODER_INPUTS, LOADERS, MODEL_FOLDERS, NONE, LoaderSpec

Files = Mapping[str, tuple[str, Detection]]
"""File name -> (folder, what its header says)."""


def other_loader(found: Detection) -> str:
    """The title of the loader that does take a file, as a remedy; empty where none does."""
    titles = [spec.title for spec in LOADERS if spec.accepts(found)]
    return f"; '{titles[0]}' loads it" if titles else ""


def check_model(spec: LoaderSpec, name: str, found: Detection) -> None:
    """Raise ChoiceError where a file is none of this loader's, naming both and the node that takes it."""
    if not spec.accepts(found):
        wanted = ", ".join(spec.families)
        raise ChoiceError(f"'{name}' is {found.in_words()}, but '{spec.title}' loads {wanted}{other_loader(found)}")


def pick_variant(spec: LoaderSpec, chosen: str, name: str, found: Detection) -> Variant:
    """The variant to take settings from: the chosen one where the file can be it, else the likeliest."""
    possible = [variant for variant in spec.variants if not found.variants or variant in found.variants]
    entries = [load().variant(variant) for variant in possible]
    entries = [entry for entry in entries if found.architecture in (None, entry.architecture)]
    if not entries:
        raise ChoiceError(f"'{name}' is {found.in_words()}: none of the variants of '{spec.title}'")
    if chosen == AUTOMATIC:
        return entries[0]
    for entry in entries:
        if entry.id == chosen:
            return entry
    can_be = ", ".join(entry.id for entry in entries)
    raise ChoiceError(f"'{name}' cannot be {chosen}: by its header it is {can_be}; set variant to one of them")


def pick_encoder(variant: Variant, kind: str, chosen: str, files: Files) -> str | None:
    """The file for one kind of text encoder: the chosen one, checked, or the best there is; None for ``none``."""
    if chosen == NONE:
        return None
    if chosen != AUTOMATIC:
        _, found = files.get(chosen, ("", None))
        if found is None or kind not in found.encoders:
            raise ChoiceError(f"'{chosen}' is {_is_what(found)}, but input '{ENCODER_INPUTS[kind]}' wants {kind}")
        return chosen
    fitting = [name for name, (_, found) in files.items() if found.kind == "text_encoder" and kind in found.encoders]
    best = _best(variant, fitting, "text_encoder")
    if best is None:
        known = expected_encoder(variant, kind)
        raise ChoiceError(
            f"{variant.name} needs the text encoder {kind} and models/text_encoders has none; "
            f"get {known.name if known else kind} (`atelier models get {variant.id}`), "
            f"or set '{ENCODER_INPUTS[kind]}' to none"
        )
    return best


def pick_vae(variant: Variant, chosen: str, files: Files) -> str:
    """The VAE's file: the chosen one, checked, or the best there is."""
    if chosen != AUTOMATIC:
        _, found = files.get(chosen, ("", None))
        if found is None or variant.family not in found.families:
            raise ChoiceError(f"'{chosen}' is {_is_what(found)}, but {variant.name} needs a VAE of {variant.family}")
        return chosen
    layered = "layered" in variant.architecture
    fitting = [
        name
        for name, (_, found) in files.items()
        if found.kind == "vae"
        and variant.family in found.families
        and ("layered" in found.traits) is layered
        and "refiner" not in found.traits
    ]
    best = _best(variant, fitting, "vae")
    if best is None:
        known = expected_part(variant, "vae")
        remedy = f"get {known.name} (`atelier models get {variant.id}`)" if known else "choose one by hand"
        raise ChoiceError(f"{variant.name} needs a VAE and models/vae has none that fits; {remedy}")
    return best


def pick_part(variant: Variant, role: str, files: Files, chosen: str = AUTOMATIC) -> str:
    """The style model or CLIP vision file of a variant: the chosen one, checked, or the best there is (by its family,
    the catalogue's own file first).
    """
    if chosen != AUTOMATIC:
        _, found = files.get(chosen, ("", None))
        if found is None or found.kind != role or variant.family not in found.families:
            wanted = KIND_IN_WORDS[role]
            raise ChoiceError(f"'{chosen}' is {_is_what(found)}, but {variant.name} needs {wanted} of {variant.family}")
        return chosen
    fitting = [name for name, (_, found) in files.items() if found.kind == role and variant.family in found.families]
    best = _best(variant, fitting, role)
    if best is None:
        known = expected_part(variant, role)
        raise ChoiceError(
            f"{variant.name} needs {known.name if known else role} in models/{known.folder if known else role}; "
            f"`atelier models get {variant.id}` fetches it"
        )
    return best


def expected_encoder(variant: Variant, kind: str) -> ModelFile | None:
    """The catalogue's own file for a kind of text encoder; None where the encoders are inside the checkpoint only."""
    known = (file for part in variant.file_sets for file in part.files if file.role == "text_encoder")
    return next((file for file in known if _is_kind(file, kind)), None)


def expected_part(variant: Variant, role: str) -> ModelFile | None:
    """The catalogue's own file of a role for a variant, the recommended set first; None where it has none."""
    return next((file for part in variant.file_sets for file in part.files if file.role == role), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One file besides the model that a loader takes: by which input, for which role, from which folder."""

    input: str
    role: str
    folder: str
    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Loading:
    """What a loader takes for the values of its widgets.

    Attributes:
        folder: of the model's file, ``checkpoints`` or ``diffusion_models``.
        encoders: in the order in which the stock loaders want them; None where the checkpoint's own are taken.
        vae: None where the checkpoint's own is taken.
    """

    folder: str
    model: str
    variant: Variant
    encoders: tuple[Part, ...] | None = None
    vae: Part | None = None
    clip_vision: Part | None = None
    style_model: Part | None = None

    @property
    def parts(self) -> tuple[Part, ...]:
        """Every file besides the model."""
        single = [part for part in (self.vae, self.clip_vision, self.style_model) if part is not None]
        return (*(self.encoders or ()), *single)


def choose(
    spec: LoaderSpec,
    values: Mapping[str, object],
    files: Callable[[tuple[str, ...]], Files],
    *,
    or_expected: bool = False,
) -> Loading:
    """What a loader takes, decided from headers.

    Args:
        values: of the node's widgets; ``model`` must be there, what is missing or no text is automatic.
        files: folders below ``models/`` -> their readable files; asked only for the folders that matter.
        or_expected: name the catalogue's own file for a part that is nowhere, in the place of failing.

    Raises:
        ChoiceError: the model is not there or of another family, or a part that it needs is nowhere.
    """
    model = _text(values, "model", "")
    folder, found = find_model(model, files(MODEL_FOLDERS))
    check_model(spec, model, found)
    variant = pick_variant(spec, _text(values, "variant", AUTOMATIC), model, found)
    held = found.parts if folder == "checkpoints" else ()  # from models/diffusion_models the weights alone are read
    parts = _Parts(variant, values, files, or_expected)
    return Loading(
        folder=folder,
        model=model,
        variant=variant,
        encoders=None if spec.video else parts.encoders(built_in="text_encoder" in held),
        vae=parts.vae(built_in="vae" in held),
        clip_vision=parts.single("clip_vision", "clip_vision") if spec.style else None,
        style_model=parts.single("style_model", "style_models") if spec.style else None,
    )


def parts_by_name(spec: LoaderSpec, values: Mapping[str, object]) -> tuple[Part, ...]:
    """What a loader would take besides a model that is not at hand: the files that the catalogue loads together with
    the file of that name, as far as the widgets leave the choice to the loader; empty where it knows no such file.
    """
    name = _text(values, "model", "").replace("\\", "/").rsplit("/", 1)[-1]
    told = _text(values, "variant", AUTOMATIC)
    for variant in spec.entries:
        for together in variant.file_sets if told in (AUTOMATIC, variant.id) else ():
            if any(file.name == name for file in together.files):
                inputs = {_role_input(variant, file): file for file in together.files}
                return tuple(
                    Part(input=key, role=file.role, folder=file.folder, name=file.name)
                    for key, file in inputs.items()
                    if key and _text(values, key, AUTOMATIC) == AUTOMATIC
                )
    return ()


def _role_input(variant: Variant, file: ModelFile) -> str:
    """The loader's input for a file; empty for the model itself."""
    if file.role == "text_encoder":
        kinds = [kind for kind in variant.text_encoders if _is_kind(file, kind)]
        return ENCODER_INPUTS[kinds[0]] if kinds else ""
    return file.role if file.role in ("vae", "clip_vision", "style_model") else ""


def _is_kind(file: ModelFile, kind: str) -> bool:
    return kind.replace("_", "") in file.id.replace("-", "")


def find_model(name: str, files: Files) -> tuple[str, Detection]:
    """Folder and header of a model's file; ChoiceError where there is none of that name."""
    if name not in files:
        where = " or ".join(f"models/{folder}" for folder in MODEL_FOLDERS)
        raise ChoiceError(f"model '{name}' is not in {where}; put it there, or choose another")
    return files[name]


@dataclass(frozen=True, slots=True)
class _Parts:
    """Chooses the files besides the model."""

    variant: Variant
    values: Mapping[str, object]
    files: Callable[[tuple[str, ...]], Files]
    or_expected: bool

    def encoders(self, *, built_in: bool) -> tuple[Part, ...] | None:
        """The checkpoint's own encoders (None), unless it has none or a person chose others."""
        wanted = {kind: _text(self.values, ENCODER_INPUTS[kind], AUTOMATIC) for kind in self.variant.text_encoders}
        if built_in and all(choice in (AUTOMATIC, NONE) for choice in wanted.values()):
            return None
        there = self.files(("text_encoders",))
        present: list[Part] = []
        for kind, choice in wanted.items():
            try:
                name = pick_encoder(self.variant, kind, choice, there)
            except ChoiceError as error:
                name = self._instead(error, choice, expected_encoder(self.variant, kind))
            if name is not None:
                entry = ENCODER_INPUTS[kind]
                present.append(Part(input=entry, role="text_encoder", folder="text_encoders", name=name))
        if not present:
            raise ChoiceError(f"{self.variant.name} has no text encoder left: set at least one to automatic")
        return tuple(present)

    def vae(self, *, built_in: bool) -> Part | None:
        """The checkpoint's own VAE (None), unless it has none or a person chose another."""
        chosen = _text(self.values, "vae", AUTOMATIC)
        if built_in and chosen == AUTOMATIC:
            return None
        try:
            name = pick_vae(self.variant, chosen, self.files(("vae",)))
        except ChoiceError as error:
            name = self._instead(error, chosen, expected_part(self.variant, "vae"))
        return Part(input="vae", role="vae", folder="vae", name=name)

    def single(self, role: str, folder: str) -> Part:
        """The CLIP vision or style model's file."""
        chosen = _text(self.values, role, AUTOMATIC)
        try:
            name = pick_part(self.variant, role, self.files((folder,)), chosen)
        except ChoiceError as error:
            name = self._instead(error, chosen, expected_part(self.variant, role))
        return Part(input=role, role=role, folder=folder, name=name)

    def _instead(self, error: ChoiceError, chosen: str, expected: ModelFile | None) -> str:
        """The name to go on with where nothing fits, or the error."""
        if self.or_expected and chosen != AUTOMATIC:
            return chosen
        if self.or_expected and expected is not None:
            return expected.name
        raise error


def _text(values: Mapping[str, object], name: str, default: str) -> str:
    value = values.get(name)
    return value if isinstance(value, str) else default


def _is_what(found: Detection | None) -> str:
    return "a file without a readable header" if found is None else found.in_words()


def _best(variant: Variant, fitting: Iterable[str], role: str) -> str | None:
    """The catalogue's own file of the recommended set first, then of other sets, then by name."""
    order = [file.name for part in variant.file_sets for file in part.files if file.role == role]
    order += [file.name for file in variant.optional if file.role == role]
    places = {name: place for place, name in reversed(list(enumerate(order)))}
    names = sorted(fitting, key=lambda name: (places.get(name.replace("\\", "/").rsplit("/", 1)[-1], len(order)), name))
    return names[0] if names else None
