"""``docs/models.md`` says what the catalogue says."""

from __future__ import annotations

from pathlib import Path

from comfy_atelier.catalogue import load
from comfy_atelier.catalogue.overview import overview

PAGE = Path(__file__).parent.parent.parent / "docs" / "models.md"


def test_the_page_is_in_step_with_the_catalogue() -> None:
    assert PAGE.read_text(encoding="utf-8") == overview(load())


def test_every_variant_and_licence_is_on_it() -> None:
    text = overview(load())
    for variant in load().variants:
        assert f"`{variant.id}`" in text
    for licence in load().licences.values():
        assert licence.name in text
