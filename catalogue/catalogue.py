"""The catalogue as a whole: families read when first asked for, and look-ups by id, by sha256 and by file name."""

from __future__ import annotations

from functools import cache, cached_property
from pathlib import Path

from .entries import Control, Family, Licence, Lora, ModelFile, Variant
from .errors import DataError, UnknownEntryError
from .reader import read_family, read_licences, read_shared_files

DATA = Path(__file__).parent / "data"
_NOT_FAMILIES = frozenset({"licences", "shared"})


class Catalogue:
    """Every model family we know, from a folder of data files. Families are read one by one, when first needed."""

    def __init__(self, folder: Path = DATA) -> None:
        self._folder = folder
        self._families: dict[str, Family] = {}

    @cached_property
    def licences(self) -> dict[str, Licence]:
        """Licences by id."""
        return read_licences(self._folder / "licences.toml")

    @cached_property
    def shared_files(self) -> dict[str, ModelFile]:
        """Files that several families use (text encoders, VAEs), by id."""
        return read_shared_files(self._folder / "shared.toml", self.licences)

    @cached_property
    def family_ids(self) -> tuple[str, ...]:
        """The ids of all families, sorted; reads no family."""
        return tuple(sorted(path.stem for path in self._folder.glob("*.toml") if path.stem not in _NOT_FAMILIES))

    def family(self, name: str) -> Family:
        """The family of that id; UnknownEntryError lists the ids there are."""
        if name not in self._families:
            if name not in self.family_ids:
                raise UnknownEntryError(f"no model family '{name}'; there are: {', '.join(self.family_ids)}")
            self._families[name] = read_family(self._folder / f"{name}.toml", self.licences, self.shared_files)
        return self._families[name]

    @property
    def families(self) -> tuple[Family, ...]:
        """All families, by id."""
        return tuple(self.family(name) for name in self.family_ids)

    @cached_property
    def _variants(self) -> dict[str, Variant]:
        return {variant.id: variant for family in self.families for variant in family.variants}

    @property
    def variants(self) -> tuple[Variant, ...]:
        """All variants of all families."""
        return tuple(self._variants.values())

    def variant(self, name: str) -> Variant:
        """The variant of that id (``sd-1.5``, ``flux1-schnell``); UnknownEntryError offers the closest ids."""
        variant = self._variants.get(name)
        if variant is None:
            from difflib import get_close_matches

            close = get_close_matches(name, self._variants, n=4, cutoff=0.4)
            hint = f"did you mean {', '.join(close)}?" if close else "`atelier models list` shows all"
            raise UnknownEntryError(f"no model variant '{name}'; {hint}")
        return variant

    @cached_property
    def files(self) -> dict[str, ModelFile]:
        """Every file of the catalogue by id."""
        result = dict(self.shared_files)
        for family in self.families:
            for file in family.files:
                if file.id in result:
                    raise DataError(f"{family.id}.toml: the file id '{file.id}' is taken")
                result[file.id] = file
        return result

    @cached_property
    def _by_sha256(self) -> dict[str, ModelFile]:
        return {file.sha256: file for file in self.files.values() if file.sha256}

    @cached_property
    def _by_name(self) -> dict[str, tuple[ModelFile, ...]]:
        names: dict[str, tuple[ModelFile, ...]] = {}
        for file in self.files.values():
            key = file.name.casefold()
            names[key] = (*names.get(key, ()), file)
        return names

    def find_by_sha256(self, digest: str) -> ModelFile | None:
        """The file with that sha256 (64 hex digits, any case), or None."""
        return self._by_sha256.get(digest.strip().lower())

    def find_by_name(self, name: str) -> tuple[ModelFile, ...]:
        """Files of that name, without regard to case or folder. A name proves nothing: compare sha256 before trusting
        it.
        """
        return self._by_name.get(name.replace("\\", "/").rsplit("/", 1)[-1].casefold(), ())

    def uses(self, file: ModelFile) -> tuple[Variant | Lora | Control, ...]:
        """The variants, LoRAs and controls that name this file."""
        found: list[Variant | Lora | Control] = []
        for family in self.families:
            for variant in family.variants:
                parts = [*variant.optional, *(part for one in variant.file_sets for part in one.files)]
                if any(part.id == file.id for part in parts):
                    found.append(variant)
            found.extend(lora for lora in family.loras if lora.file.id == file.id)
            found.extend(control for control in family.controls if control.file.id == file.id)
        return tuple(found)


@cache
def load() -> Catalogue:
    """The catalogue that ships with this package. Costs nothing until a family is asked for."""
    return Catalogue()


def find_by_sha256(digest: str) -> ModelFile | None:
    """The file of the shipped catalogue with that sha256, or None."""
    return load().find_by_sha256(digest)


def find_by_name(name: str) -> tuple[ModelFile, ...]:
    """The files of the shipped catalogue with that file name."""
    return load().find_by_name(name)
