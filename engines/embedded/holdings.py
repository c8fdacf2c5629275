"""Model files with what their headers say: what our own nodes choose from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ...catalogue import ChoiceError, Detection, HeaderError, UnknownEntryError, detect
from ...catalogue.choice import Files
from .diffusion.files import find_model, model_names
from .problems import NodeProblem

READABLE = (".safetensors", ".sft")


def holdings(roots: Sequence[Path]) -> Callable[[tuple[str, ...]], Files]:
    """A function of folders below ``models/`` that gives their files: name -> (folder, what the header says).

    Files without a readable header are left out: damaged, still on their way, pickles.
    """

    def files(folders: tuple[str, ...]) -> Files:
        found: dict[str, tuple[str, Detection]] = {}
        for folder in folders:
            for name in model_names(roots, folder):
                path = find_model(roots, folder, name) if name.endswith(READABLE) else None
                if path is None or name in found:
                    continue
                try:
                    found[name] = (folder, detect(path))
                except HeaderError:
                    continue
        return found

    return files


def known(roots: Sequence[Path], folder: str, name: str) -> Detection:
    """What one file is. Raises `NodeProblem` where it is not there or has no readable header."""
    path = find_model(roots, folder, name)
    if path is None:
        raise NodeProblem(
            f"model {name!r} is not in models/{folder}", remedy="put it there, or choose one that is there"
        )
    try:
        return detect(path)
    except HeaderError as error:
        raise NodeProblem(f"{name!r} cannot be used: {error}", remedy="fetch it again, or choose another") from error


@contextmanager
def choosing() -> Iterator[None]:
    """Turn what the catalogue refuses into a `NodeProblem`."""
    try:
        yield
    except (ChoiceError, UnknownEntryError) as error:
        message, _, remedy = str(error).partition("; ")
        raise NodeProblem(message, remedy=remedy) from error
