"""Layered prompts and negative presets."""

# mypy: disable-error-code="import-not-found, misc, no-any-return"
# Type checkers have no ComfyUI at hand: neither its modules nor its base classes are known to them.

from __future__ import annotations

from comfy_api.latest import io

from ..catalogue.prompting import LAYERS, NEGATIVE_PRESETS, SEPARATORS, join, negative
from .schema import node_schema

GROUP = "prompt"
_TOOLTIPS = {
    "subject": "Who or what is shown: 'a red fox'.",
    "scene": "Where and when: 'in a snowy forest at dawn'.",
    "details": "What to notice: 'frost on its whiskers'.",
    "lighting": "Where the light comes from: 'soft backlight'.",
    "mood": "How it feels: 'calm'.",
    "style": "How it is made: '35 mm photograph'.",
}


class AtelierLayeredPrompt(io.ComfyNode):
    """One text from subject, scene, details, lighting, mood and style."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="AtelierLayeredPrompt",
            display_name="Layered Prompt",
            group=GROUP,
            description="Writes one prompt from layers; empty ones are left out. Change one and keep the others.",
            aliases=("prompt builder", "text", "compose prompt", "positive"),
            inputs=[
                *(io.String.Input(layer, default="", multiline=True, tooltip=_TOOLTIPS[layer]) for layer in LAYERS),
                io.Combo.Input(
                    "joined_by",
                    options=list(SEPARATORS),
                    default="commas",
                    tooltip="Commas suit SD and SDXL, sentences suit FLUX, Qwen-Image and HiDream.",
                ),
            ],
            outputs=[io.String.Output(tooltip="The prompt, for a text encoder.")],
        )

    @classmethod
    def execute(cls, joined_by: str, **layers: str) -> io.NodeOutput:
        return io.NodeOutput(join((layers[layer] for layer in LAYERS), joined_by))


class AtelierNegativePrompt(io.ComfyNode):
    """A negative prompt from a preset and one's own words."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="AtelierNegativePrompt",
            display_name="Negative Prompt",
            group=GROUP,
            description="A negative prompt from a preset, with your own words added. Models with cfg 1 ignore it.",
            aliases=("negative preset", "text", "exclude"),
            inputs=[
                io.Combo.Input(
                    "preset", options=list(NEGATIVE_PRESETS), default="general", tooltip="What kind of picture it is."
                ),
                io.String.Input("more", default="", multiline=True, tooltip="More to leave out, separated by commas."),
            ],
            outputs=[io.String.Output(tooltip="The negative prompt, for a text encoder.")],
        )

    @classmethod
    def execute(cls, preset: str, more: str) -> io.NodeOutput:
        return io.NodeOutput(negative(preset, more))


PROMPT_NODES: list[type[io.ComfyNode]] = [AtelierLayeredPrompt, AtelierNegativePrompt]
