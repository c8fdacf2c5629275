"""Which files of the catalogue a name on the command line means."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .console import UsageError

if TYPE_CHECKING:
    from ..catalogue import Control, FileSet, Licence, Lora, ModelFile, Variant


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """What was named: a variant with its add-ons, or an add-on or a file alone. ``variants`` holds all for ``all``."""

    id: str
    variants: tuple[Variant, ...] = ()
    loras: tuple[Lora, ...] = ()
    controls: tuple[Control, ...] = ()
    files: tuple[ModelFile, ...] = ()

    @property
    def variant(self) -> Variant | None:
        """The one variant that was named."""
        return self.variants[0] if len(self.variants) == 1 else None

    @property
    def add_ons(self) -> tuple[Lora | Control, ...]:
        """LoRAs and controls together."""
        return (*self.loras, *self.controls)

    @property
    def known_files(self) -> tuple[ModelFile, ...]:
        """Every file that it can be loaded or used with."""
        parts = [part for variant in self.variants for one in variant.file_sets for part in one.files]
        parts += [part for variant in self.variants for part in variant.optional]
        parts += [add_on.file for add_on in self.add_ons]
        parts += self.files
        return tuple({part.id: part for part in parts}.values())

    @property
    def licences(self) -> tuple[Licence, ...]:
        """The licence of the model itself; its files may have others."""
        return tuple({one.licence.id: one.licence for one in self.variants}.values())

    def selected(self, file_set: str | None, roles: list[str]) -> tuple[ModelFile, ...]:
        """The files to download: the recommended way to load it, or the named one; of it, or of all, only ``roles``.

        Raises:
            UsageError: no such way or role, or there is nothing to download.
        """
        if self.variant is not None:
            chosen = _file_set(self.variant, file_set).files
        elif file_set is not None:
            raise UsageError(f"--set {file_set}: only variants have several ways to be loaded; {self.id} is none")
        else:
            chosen = self.known_files
        picked: list[ModelFile] = []
        for role in roles:
            # A VAE is the one of this way to load it; a LoRA, which no way needs, any that fits.
            fits = [file for file in chosen if file.role == role] or [
                file for file in self.known_files if file.role == role
            ]
            if not fits:
                known = ", ".join(sorted({file.role for file in self.known_files}))
                raise UsageError(f"--role {role}: {self.id} has no such file; it has: {known}")
            picked += fits
        return tuple(picked) if roles else chosen


def _file_set(variant: Variant, name: str | None) -> FileSet:
    if not variant.file_sets:
        why = variant.absent.get("file_sets", "it has no files of its own")
        raise UsageError(f"{variant.id}: nothing to download: {why}; see `atelier models show {variant.id}`")
    if name is None:
        return variant.file_sets[0]
    hits = [one for one in variant.file_sets if one.name.casefold().startswith(name.casefold())]
    if len(hits) != 1:
        known = ", ".join(repr(one.name) for one in variant.file_sets)
        raise UsageError(f"--set {name}: {'no' if not hits else 'more than one'} such way; {variant.id} has: {known}")
    return hits[0]


def choose(name: str) -> Choice:
    """What ``name`` means: a variant before a LoRA or control before a file of that id before a tokenizer's files.

    Raises:
        UnknownEntryError: nothing has that id; says what comes close.
    """
    from ..catalogue import UnknownEntryError, load

    catalogue = load()
    try:
        variant = catalogue.variant(name)
    except UnknownEntryError:
        loras = tuple(one for family in catalogue.families for one in family.loras if one.id == name)
        controls = tuple(one for family in catalogue.families for one in family.controls if one.id == name)
        file = catalogue.files.get(name)
        files = (file,) if file else _tokenizer(name, catalogue.files.values())
        if not (loras or controls or files):
            raise
        return Choice(id=name, loras=loras, controls=controls, files=files)
    family = catalogue.family(variant.family)
    return Choice(
        id=name,
        variants=(variant,),
        loras=tuple(one for one in family.loras if name in one.variants),
        controls=tuple(one for one in family.controls if name in one.variants),
    )


def _tokenizer(name: str, files: Iterable[ModelFile]) -> tuple[ModelFile, ...]:
    """The files of a tokenizer, which may be several, by their ids' common part."""
    return tuple(file for file in files if file.role == "tokenizer" and file.id.startswith(f"{name}-"))


def everything() -> Choice:
    """The whole catalogue."""
    from ..catalogue import load

    families = load().families
    return Choice(
        id="all",
        variants=load().variants,
        loras=tuple(one for family in families for one in family.loras),
        controls=tuple(one for family in families for one in family.controls),
    )
