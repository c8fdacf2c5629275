"""Which files a loader takes: decided from headers, before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from .catalogue import load
from .detection import Detection
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


def pick_part(variant: Variant, role: str, files: Files) -> str:
    """The style model or CLIP vision file of a variant: by its family, the catalogue's own file first."""
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
    wanted = kind.replace("_", "")
    known = (file for part in variant.file_sets for file in part.files if file.role == "text_encoder")
    return next((file for file in known if wanted in file.id.replace("-", "")), None)


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


def choose(spec: LoaderSpec, values: Mapping[str, object], files: Callable[[tuple[str, ...]], Files]) -> Loading:
    """What a loader takes, decided from headers.

    Args:
        values: of the node's widgets; ``model`` must be there, what is missing or no text is automatic.
        files: folders below ``models/`` -> their readable files; asked only for the folders that matter.

    Raises:
        ChoiceError: the model is not there or of another family, or a part that it needs is nowhere.
    """
    model = _text(values, "model", "")
    folder, found = find_model(model, files(MODEL_FOLDERS))
    check_model(spec, model, found)
    variant = pick_variant(spec, _text(values, "variant", AUTOMATIC), model, found)
    held = found.parts if folder == "checkpoints" else ()  # from models/diffusion_models the weights alone are read
    parts: dict[str, Part] = {}
    if spec.style:
        for role, place in (("clip_vision", "clip_vision"), ("style_model", "style_models")):
            name = pick_part(variant, role, files((place,)))
            parts[role] = Part(input=role, role=role, folder=place, name=name)
    return Loading(
        folder=folder,
        model=model,
        variant=variant,
        encoders=None if spec.video else _encoders(variant, "text_encoder" in held, values, files),
        vae=_vae(variant, "vae" in held, _text(values, "vae", AUTOMATIC), files),
        **parts,
    )


def find_model(name: str, files: Files) -> tuple[str, Detection]:
    """Folder and header of a model's file; ChoiceError where there is none of that name."""
    if name not in files:
        where = " or ".join(f"models/{folder}" for folder in MODEL_FOLDERS)
        raise ChoiceError(f"model '{name}' is not in {where}; put it there, or choose another")
    return files[name]


def _encoders(
    variant: Variant, built_in: bool, values: Mapping[str, object], files: Callable[[tuple[str, ...]], Files]
) -> tuple[Part, ...] | None:
    """The checkpoint's own encoders (None), unless it has none or a person chose others."""
    wanted = {kind: _text(values, ENCODER_INPUTS[kind], AUTOMATIC) for kind in variant.text_encoders}
    if built_in and all(choice in (AUTOMATIC, NONE) for choice in wanted.values()):
        return None
    there = files(("text_encoders",))
    names = {kind: pick_encoder(variant, kind, choice, there) for kind, choice in wanted.items()}
    present = tuple(
        Part(input=ENCODER_INPUTS[kind], role="text_encoder", folder="text_encoders", name=name)
        for kind, name in names.items()
        if name is not None
    )
    if not present:
        raise ChoiceError(f"{variant.name} has no text encoder left: set at least one to automatic")
    return present


def _vae(variant: Variant, built_in: bool, chosen: str, files: Callable[[tuple[str, ...]], Files]) -> Part | None:
    if built_in and chosen == AUTOMATIC:
        return None
    return Part(input="vae", role="vae", folder="vae", name=pick_vae(variant, chosen, files(("vae",))))


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
