"""Whether a LoRA or a ControlNet belongs to a model, and what of a LoRA found no place."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from .catalogue import load
from .detection import Detection
from .entries import Family
from .errors import ChoiceError


def _family(name: str) -> Family:
    return load().family(name)


def check_adapter(name: str, found: Detection, kind: str, model: tuple[str, str | None] | None) -> None:
    """Raise ChoiceError where a file is not of ``kind`` or not of the model's family, naming both.

    ``model`` is family and architecture; None where the model is of a family we do not know: then nothing is said.
    """
    if found.kind != kind:
        raise ChoiceError(f"'{name}' is {found.in_words()}, not a {'LoRA' if kind == 'lora' else 'ControlNet'}")
    check_family(name, found, model)


def check_family(name: str, found: Detection, model: tuple[str, str | None] | None) -> None:
    """Raise ChoiceError where a file is for another family or architecture than the model's, naming both."""
    if model is None or (not found.families and found.label is None):
        return
    family, architecture = model
    if not found.fits(family, architecture):
        wanted = architecture if found.family == family and architecture else _family(family).name
        raise ChoiceError(f"'{name}' is {found.in_words()}, but the model is {wanted}; choose one made for {wanted}")


def unmatched(modules: Iterable[str], known: Collection[str]) -> list[str]:
    """The modules of a LoRA that the model (and its encoders) have no weight for, sorted."""
    return sorted(module for module in modules if module not in known)


def report(name: str, total: int, missing: list[str], shown: int = 8) -> str:
    """In words, how much of a LoRA found its place."""
    if not missing:
        return f"{name}: all {total} modules applied"
    listed = ", ".join(missing[:shown]) + (f" and {len(missing) - shown} more" if len(missing) > shown else "")
    return f"{name}: {total - len(missing)} of {total} modules applied; without a place in this model: {listed}"
