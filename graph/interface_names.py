"""Names for parameters and outputs: identifiers, unique, the ones a person would choose."""

from __future__ import annotations

import keyword
import re
import unicodedata

from .interface import is_name

_SEPARATORS = re.compile(r"[^0-9A-Za-z_]+")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z][a-z])")

_KINDS = "int|float|boolean|number|text|string|text string|input text|text multiline|clip text encode"
_TITLE = re.compile(
    rf"(?:(?:load|save)\s+)?(?:(?:{_KINDS}|image|mask|video|audio)\s*[（(:]\s*(?P<said>.+?)[)）]?|(?P<whole>.+))",
    re.IGNORECASE,
)


def identifier(text: str, fallback: str = "value") -> str:
    """``text`` as a lower-case identifier: ``"Positive Prompt (CLIP)"`` -> ``positive_prompt_clip``.

    Accents are dropped; letters of other scripts stay where the whole is an identifier by itself. ``fallback`` where
    nothing is left.
    """
    text = text.strip()
    if not text.isascii() and is_name(text):
        return text
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    name = _SEPARATORS.sub("_", _CAMEL.sub("_", plain)).strip("_").lower()
    name = re.sub(r"_+", "_", name)[:48].strip("_")
    if not name:
        return fallback
    if name[0].isdigit():
        name = f"{fallback}_{name}"
    return f"{name}_" if keyword.iskeyword(name) else name


def title_name(title: str, fallback: str = "value") -> str:
    """A name from a title: ``Boolean (Refine Prompt?)`` -> ``refine_prompt``, ``Load Image: front`` -> ``front``."""
    told = _TITLE.fullmatch(title.strip())
    return identifier((told["said"] or told["whole"]) if told else title, fallback)


class Names:
    """Gives each asked name once. A clash is resolved by the node's title, then its id, then by counting."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, wanted: str, *, title: str = "", node_id: str = "") -> str:
        """A name that nobody has yet, as near to ``wanted`` as can be."""
        wanted = wanted if is_name(wanted) else identifier(wanted)
        candidates = [wanted]
        if title:
            by_title = title_name(title, "")
            if by_title and by_title != wanted:
                candidates.append(by_title if f"_{wanted}_" in f"_{by_title}_" else f"{wanted}_{by_title.strip('_')}")
        if node_id:
            candidates.append(f"{wanted}_{_SEPARATORS.sub('_', node_id).strip('_')}")
        for name in candidates:
            if name not in self._taken and is_name(name):
                return self._keep(name)
        number = 2
        while (name := f"{wanted[:50]}_{number}") in self._taken or not is_name(name):
            number += 1
        return self._keep(name)

    def _keep(self, name: str) -> str:
        self._taken.add(name)
        return name
