"""Recommended settings by variant, changes to them, and an empty latent of the right kind and size."""

# mypy: disable-error-code="import-not-found, misc, no-any-return"
# Type checkers have no ComfyUI at hand: neither its modules nor its base classes are known to them.

from __future__ import annotations

from comfy_api.latest import io

from ..catalogue import load
from ..catalogue.settings import RATIOS, Settings, overrides, settings_of
from ..catalogue.wiring import empty_latent
from .schema import AnyCombo, SettingsType, node_schema
from .stock import choices, stock

GROUP = "settings"
RECOMMENDED = "recommended"


def _variant_ids() -> list[str]:
    return [variant.id for variant in load().variants if variant.sampling is not None]


class AtelierRecommendedSettings(io.ComfyNode):
    """The catalogue's settings for a variant, as one wire and as values."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="AtelierRecommendedSettings",
            display_name="Recommended Settings",
            group=GROUP,
            description="What a model's authors or ComfyUI's templates sample with: steps, cfg, sampler, size.",
            aliases=("defaults", "presets", "steps", "cfg", "sampler settings"),
            inputs=[
                io.Combo.Input("variant", options=_variant_ids(), tooltip="The model, by its id in the catalogue."),
            ],
            outputs=[
                SettingsType.Output(display_name="SETTINGS", tooltip="For our sampler, latent and image nodes."),
                io.Int.Output(display_name="steps", tooltip="Sampling steps."),
                io.Float.Output(display_name="cfg", tooltip="Classifier-free guidance."),
                AnyCombo.Output(display_name="sampler_name", tooltip="The sampler; fits the stock nodes' widgets."),
                AnyCombo.Output(display_name="scheduler", tooltip="The scheduler; fits the stock nodes' widgets."),
                io.Float.Output(display_name="guidance", tooltip="For FluxGuidance; 0 where the model has none."),
                io.Float.Output(
                    display_name="shift", tooltip="For the ModelSampling nodes; 0 where the default is right."
                ),
                io.Int.Output(display_name="width", tooltip="The width it was made for."),
                io.Int.Output(display_name="height", tooltip="The height it was made for."),
            ],
        )

    @classmethod
    def execute(cls, variant: str) -> io.NodeOutput:
        settings = settings_of(load().variant(variant))
        return io.NodeOutput(settings, *settings.values)


class AtelierChangeSettings(io.ComfyNode):
    """The same settings with some of them changed."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="AtelierChangeSettings",
            display_name="Change Settings",
            group=GROUP,
            description="Changes recommended settings on their way to a sampler; 0 and 'recommended' leave them alone.",
            aliases=("override", "steps", "cfg", "sampler", "scheduler", "guidance"),
            inputs=[
                SettingsType.Input("settings", tooltip="The settings to start from."),
                io.Int.Input("steps", default=0, min=0, max=10000, tooltip="Sampling steps; 0: as recommended."),
                io.Float.Input(
                    "cfg", default=0.0, min=0.0, max=100.0, step=0.1, tooltip="Guidance; 0: as recommended."
                ),
                io.Float.Input(
                    "guidance", default=0.0, min=0.0, max=100.0, step=0.1, tooltip="FLUX guidance; 0: as recommended."
                ),
                io.Combo.Input(
                    "sampler",
                    options=[RECOMMENDED, *choices("KSampler", "sampler_name")],
                    default=RECOMMENDED,
                    tooltip="The sampler to use instead.",
                ),
                io.Combo.Input(
                    "scheduler",
                    options=[RECOMMENDED, *choices("KSampler", "scheduler")],
                    default=RECOMMENDED,
                    tooltip="The scheduler to use instead.",
                ),
            ],
            outputs=[SettingsType.Output(display_name="SETTINGS", tooltip="The changed settings.")],
        )

    @classmethod
    def execute(
        cls, settings: Settings, steps: int, cfg: float, guidance: float, sampler: str, scheduler: str
    ) -> io.NodeOutput:
        changes = overrides(steps=steps, cfg=cfg, guidance=guidance, sampler=sampler, scheduler=scheduler)
        return io.NodeOutput(settings.changed(changes))


class AtelierEmptyLatent(io.ComfyNode):
    """An empty latent of the kind and size that a model was made for."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="AtelierEmptyLatent",
            display_name="Empty Latent by Aspect Ratio",
            group=GROUP,
            description="An empty latent with the right channels, at a size the model was trained at, by aspect ratio.",
            aliases=("latent", "resolution", "size", "aspect ratio", "empty latent image"),
            inputs=[
                SettingsType.Input("settings", tooltip="Whose model the latent is for."),
                io.Combo.Input("aspect_ratio", options=list(RATIOS), tooltip="Width to height."),
                io.Float.Input(
                    "megapixels",
                    default=0.0,
                    min=0.0,
                    max=16.0,
                    step=0.05,
                    tooltip="The area; 0 takes the size that the model was trained at.",
                ),
                io.Int.Input("batch_size", default=1, min=1, max=4096, tooltip="How many pictures at once."),
            ],
            outputs=[
                io.Latent.Output(tooltip="The empty latent."),
                io.Int.Output(display_name="width", tooltip="Its width in pixels."),
                io.Int.Output(display_name="height", tooltip="Its height in pixels."),
            ],
        )

    @classmethod
    def execute(cls, settings: Settings, aspect_ratio: str, megapixels: float, batch_size: int) -> io.NodeOutput:
        return io.NodeOutput(*empty_latent(stock, settings, aspect_ratio, megapixels, batch_size))


SETTINGS_NODES: list[type[io.ComfyNode]] = [AtelierRecommendedSettings, AtelierChangeSettings, AtelierEmptyLatent]
