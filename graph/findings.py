"""What lint can say: the rules with their ids, and a finding of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from .jsontext import JSON


class Severity(StrEnum):
    """How bad it is: an error will fail or must not be, a warning will likely disappoint, a note is worth knowing."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"

    @property
    def rank(self) -> int:
        """0 for the worst."""
        return list(Severity).index(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """One thing that lint looks for. `docs/lint.md` has a section for each id."""

    id: str
    name: str
    severity: Severity
    summary: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What a rule found, and where.

    Attributes:
        message: what is wrong, one sentence, lower case, no full stop.
        remedy: what to do about it.
        url: where to read more (a licence).
    """

    rule: str
    severity: Severity
    message: str
    remedy: str
    node_id: str | None = None
    class_type: str | None = None
    input_name: str | None = None
    title: str = ""
    url: str | None = None

    @property
    def where(self) -> str:
        """``node 3 (KSampler), input 'cfg'``; empty for what concerns the whole workflow."""
        if self.node_id is None:
            return ""
        place = f"node {self.node_id} ({self.class_type})"
        return place + (f", input {self.input_name!r}" if self.input_name else "")

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        link = f" ({self.url})" if self.url else ""
        return f"{self.severity.value} {self.rule}: {place}{self.message}; {self.remedy}{link}"

    def to_json(self) -> dict[str, JSON]:
        """The finding as ``atelier lint --json`` prints it."""
        fields: dict[str, JSON] = {
            "rule": self.rule,
            "severity": self.severity.value,
            "node": self.node_id,
            "class_type": self.class_type,
            "input": self.input_name,
            "title": self.title,
            "message": self.message,
            "remedy": self.remedy,
            "url": self.url,
        }
        return {key: value for key, value in fields.items() if value not in (None, "")}


_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE

RULES: Mapping[str, Rule] = {
    rule.id: rule
    for rule in (
        Rule(
            id="A101", name="size-multiple", severity=_W, summary="the size is not a multiple of what the model needs"
        ),
        Rule(id="A102", name="size-range", severity=_W, summary="the size is far from what the model was trained at"),
        Rule(
            id="A103", name="size-exact", severity=_W, summary="the model works at certain sizes only, and this is none"
        ),
        Rule(
            id="A201", name="negative-unused", severity=_N, summary="the negative prompt does nothing, because cfg is 1"
        ),
        Rule(id="A202", name="cfg-distilled", severity=_W, summary="cfg is above 1 on a guidance-distilled model"),
        Rule(id="A203", name="steps-range", severity=_W, summary="the steps are far from the model's"),
        Rule(id="A204", name="lora-sampling", severity=_W, summary="a distilling LoRA needs another cfg"),
        Rule(id="A301", name="text-encoder-type", severity=_E, summary="the text encoder is loaded for another family"),
        Rule(id="A302", name="text-encoder-file", severity=_E, summary="the text encoder is another family's"),
        Rule(id="A303", name="vae-family", severity=_E, summary="the VAE is another family's"),
        Rule(
            id="A304", name="latent-shape", severity=_W, summary="the empty latent has another shape than the model's"
        ),
        Rule(id="A305", name="lora-family", severity=_E, summary="the LoRA is another family's"),
        Rule(id="A306", name="controlnet-family", severity=_E, summary="the ControlNet is another family's"),
        Rule(id="A307", name="latent-own", severity=_E, summary="the model makes its own latent"),
        Rule(id="A308", name="loader-file", severity=_E, summary="the loader refuses the file: it is another model"),
        Rule(id="A401", name="licence-non-commercial", severity=_N, summary="a model's licence forbids commercial use"),
        Rule(id="A402", name="licence-conditions", severity=_N, summary="a model's licence has conditions"),
        Rule(id="A501", name="class-unknown", severity=_E, summary="the engine lacks a node class"),
        Rule(id="A502", name="no-output", severity=_E, summary="nothing is saved or shown"),
        Rule(id="A503", name="class-deprecated", severity=_N, summary="a node class is deprecated"),
        Rule(id="A504", name="refused", severity=_E, summary="a server would refuse the prompt"),
    )
}
"""Every rule by its id."""
