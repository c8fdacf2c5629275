"""Stable Diffusion 1.x, 2.x and SDXL."""

from __future__ import annotations

from . import Family

FAMILY = Family(name="stable_diffusion")
