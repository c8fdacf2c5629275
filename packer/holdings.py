"""Which of the catalogue's files are on this machine: here, missing, or another file under the right name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from ..catalogue import HeaderError, ModelFile, Variant, detect, load
from .fields import JSON
from .folders import ModelFolders
from .hashes import HashCache, hash_files

State = Literal["here", "unsure", "wrong", "missing"]

ROUNDED = 0.1
"""A size that the catalogue has only rounded may be off by this part before it raises a doubt."""

_ORDER: dict[State, int] = {"here": 0, "unsure": 1, "wrong": 2, "missing": 3}

Progress = Callable[[int, int, str], None]
"""Called with (bytes hashed so far, bytes to hash, name)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Holding:
    """A file of the catalogue and what this machine has of it.

    Attributes:
        state: ``here``; ``unsure`` where nothing known can tell; ``wrong``: another file has its name; ``missing``.
        path: the file that has its name, if any.
        reason: why it is wrong or unsure, or what a right one's proof lacks; empty where nothing is to say.
        checked: whether its sha256 was compared.
    """

    file: ModelFile
    state: State
    path: Path | None = None
    reason: str = ""
    checked: bool = False

    def to_json(self) -> dict[str, JSON]:
        """For ``--json``."""
        return {
            "file": self.file.id,
            "name": self.file.name,
            "folder": self.file.folder,
            "state": self.state,
            "path": str(self.path) if self.path else None,
            "reason": self.reason,
            "checked": self.checked,
        }


def holdings(
    files: Iterable[ModelFile], folders: ModelFolders, *, check: bool = False, progress: Progress | None = None
) -> tuple[Holding, ...]:
    """Look for each file in its ComfyUI folder, also in folders below that; the best candidate counts.

    Names prove nothing: size and header are compared, and with ``check`` the sha256 (remembered from run to run).

    Raises:
        MissingFile: with ``check``, a file cannot be read.
    """
    files = tuple({file.id: file for file in files}.values())
    listed: dict[str, tuple[Path, ...]] = {}
    candidates = {file.id: _candidates(file, folders, listed) for file in files}
    digests: dict[Path, str] = {}
    if check:
        paths = {path for file in files if file.sha256 for path in candidates[file.id] if _sized(file, path)}

        def tell(path: Path, done: int, total: int) -> None:
            if progress is not None:
                progress(done, total, path.name)

        digests = hash_files(sorted(paths), cache=HashCache(), progress=tell)
    found = []
    for file in files:
        judged = [_judge(file, path, digests.get(path)) for path in candidates[file.id]]
        found.append(min(judged, key=lambda one: _ORDER[one.state], default=Holding(file=file, state="missing")))
    return tuple(found)


def _candidates(file: ModelFile, folders: ModelFolders, listed: dict[str, tuple[Path, ...]]) -> list[Path]:
    if file.folder not in listed:
        names = dict.fromkeys(folders.list(file.folder))
        hits = (folders.find(file.folder, name) for name in names)
        listed[file.folder] = tuple(hit.path for hit in hits if hit is not None)
    first = folders.find(file.folder, file.name)
    paths = [first.path] if first else []
    return list(dict.fromkeys([*paths, *(path for path in listed[file.folder] if path.name == file.name)]))


def _sized(file: ModelFile, path: Path) -> bool:
    """Whether hashing it can bring anything: a file of another size is wrong already."""
    return not file.size_is_exact or path.stat().st_size == file.size


def _judge(file: ModelFile, path: Path, digest: str | None) -> Holding:
    if digest is not None and file.sha256 is not None:
        if digest == file.sha256:
            return Holding(file=file, state="here", path=path, checked=True)
        what, _ = _header_says(file, path)
        reason = f"{what + '; ' if what else ''}its sha256 is {digest} instead of {file.sha256}"
        return Holding(file=file, state="wrong", path=path, reason=reason, checked=True)
    size = path.stat().st_size
    if file.size_is_exact and size != file.size:
        reason = f"{size:,} bytes instead of {file.size:,}"
        return Holding(file=file, state="wrong", path=path, reason=reason)
    wrong, told = _header_says(file, path)
    if wrong:
        return Holding(file=file, state="wrong", path=path, reason=wrong)
    if file.size_is_exact:
        return Holding(file=file, state="here", path=path)
    if file.size is not None and abs(size - file.size) > ROUNDED * file.size:
        reason = f"{size:,} bytes, about {file.size:,} were expected"
        return Holding(file=file, state="unsure", path=path, reason=reason)
    reason = "neither its exact size nor a sha256 is known" if file.sha256 is None else "its exact size is not known"
    return Holding(file=file, state="here" if told else "unsure", path=path, reason=reason)


def _header_says(file: ModelFile, path: Path) -> tuple[str, bool]:
    """(what is wrong by the header, or nothing; whether the header speaks for the file)."""
    if PurePosixPath(file.name).suffix not in (".safetensors", ".sft"):
        return "", False
    try:
        found = detect(path)
    except HeaderError as error:
        return str(error).removeprefix(f"{path}: "), False
    if found.kind == "unknown":
        return "", False
    if found.kind != file.role:
        return f"it is {found.in_words()}", False
    if file.family is not None and file.family not in found.families:
        return (f"it is {found.in_words()}", False) if found.families or found.label else ("", False)
    meant = {use.id for use in load().uses(file) if isinstance(use, Variant)}
    # The exact size says more than the header does of variants that share an architecture.
    whole = file.role in ("checkpoint", "diffusion_model") and not file.size_is_exact
    if whole and meant and found.variants and meant.isdisjoint(found.variants):
        return f"it is {found.in_words()}: {' or '.join(found.variants)}", False
    return "", True
