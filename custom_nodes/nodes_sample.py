"""One sampler for each way of sampling; what they give equals stock nodes wired by hand with the same values."""

# mypy: disable-error-code="import-not-found, misc, no-any-return"
# Type checkers have no ComfyUI at hand: neither its modules nor its base classes are known to them.

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..catalogue import wiring
from ..catalogue.settings import Settings
from .schema import SettingsType, node_schema
from .stock import stock

GROUP = "sample"


def _common(*, denoise: bool = True) -> list[Any]:
    inputs: list[Any] = [
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=0xFFFFFFFFFFFFFFFF,
            control_after_generate=True,
            tooltip="Where the noise starts; the same seed gives the same picture.",
        )
    ]
    if denoise:
        inputs.append(
            io.Float.Input(
                "denoise",
                default=1.0,
                min=0.0,
                max=1.0,
                step=0.01,
                tooltip="How much of the latent is drawn anew; 1 for a new picture.",
            )
        )
    return inputs


def _schema(node_id: str, name: str, description: str, aliases: tuple[str, ...], inputs: list[Any]) -> io.Schema:
    return node_schema(
        node_id=node_id,
        display_name=name,
        group=GROUP,
        description=description,
        aliases=("ksampler", "sampler", *aliases),
        inputs=inputs,
        outputs=[io.Latent.Output(tooltip="The sampled latent, for VAE Decode.")],
    )


def _wires(*, negative_needed: bool = False) -> list[Any]:
    return [
        io.Model.Input("model", tooltip="The model, from one of our loaders or a stock one."),
        SettingsType.Input("settings", tooltip="How to sample; from the loader or Recommended Settings."),
        io.Conditioning.Input("positive", tooltip="What the picture should show."),
        io.Conditioning.Input(
            "negative",
            optional=not negative_needed,
            tooltip="What it should not show. Models that ignore it (cfg 1) need none.",
        ),
        io.Latent.Input("latent", tooltip="The latent to draw on."),
    ]


class AtelierSample(io.ComfyNode):
    """KSampler with the settings of a wire."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return _schema(
            "AtelierSample",
            "Sample",
            "Samples as the settings say, like KSampler. For all models but those with a sampler of their own below.",
            ("denoise", "generate"),
            [*_wires(), *_common()],
        )

    @classmethod
    def execute(
        cls, model: Any, settings: Settings, positive: Any, latent: Any, seed: int, denoise: float, negative: Any = None
    ) -> io.NodeOutput:
        return io.NodeOutput(wiring.sample(stock, model, settings, positive, latent, seed, denoise, negative))


class AtelierSampleTurbo(io.ComfyNode):
    """SamplerCustom with SDTurboScheduler, for SD-Turbo and SDXL Turbo."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return _schema(
            "AtelierSampleTurbo",
            "Sample: Turbo",
            "Samples SD-Turbo and SDXL Turbo with their own schedule, in one to four steps.",
            ("turbo", "sdxl turbo", "sd turbo"),
            [*_wires(), *_common()],
        )

    @classmethod
    def execute(
        cls, model: Any, settings: Settings, positive: Any, latent: Any, seed: int, denoise: float, negative: Any = None
    ) -> io.NodeOutput:
        return io.NodeOutput(wiring.sample_turbo(stock, model, settings, positive, latent, seed, denoise, negative))


class AtelierSampleGuided(io.ComfyNode):
    """SamplerCustomAdvanced with BasicGuider: one conditioning, no cfg (FLUX Redux)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        wires = [wire for wire in _wires() if wire.id != "negative"]
        return _schema(
            "AtelierSampleGuided",
            "Sample: one conditioning",
            "Samples with one conditioning and no negative, as the FLUX Redux template does.",
            ("basic guider", "redux", "flux"),
            [*wires, *_common()],
        )

    @classmethod
    def execute(
        cls, model: Any, settings: Settings, positive: Any, latent: Any, seed: int, denoise: float
    ) -> io.NodeOutput:
        return io.NodeOutput(wiring.sample_guided(stock, model, settings, positive, latent, seed, denoise))


class AtelierSampleEdit(io.ComfyNode):
    """SamplerCustomAdvanced with DualCFGGuider: a scale for the text and one for the picture (HiDream-E1)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        wires = [wire for wire in _wires(negative_needed=True) if wire.id not in ("negative",)]
        wires[3:3] = [
            io.Conditioning.Input(
                "picture", tooltip="The negative output of InstructPixToPixConditioning: the picture alone."
            ),
            io.Conditioning.Input("negative", tooltip="What the picture should not show, without the picture."),
        ]
        return _schema(
            "AtelierSampleEdit",
            "Sample: edit with two scales",
            "Samples HiDream-E1 with one scale for the instruction and one for the picture, as its template does.",
            ("dual cfg", "hidream", "edit"),
            [*wires, *_common()],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        settings: Settings,
        positive: Any,
        picture: Any,
        negative: Any,
        latent: Any,
        seed: int,
        denoise: float,
    ) -> io.NodeOutput:
        conds = {"positive": positive, "picture": picture, "negative": negative}
        return io.NodeOutput(
            wiring.sample_edit(stock, model, settings, latent=latent, seed=seed, denoise=denoise, **conds)
        )


class AtelierSampleVideo(io.ComfyNode):
    """KSampler with a guidance that rises over the frames (Stable Video Diffusion)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return _schema(
            "AtelierSampleVideo",
            "Sample: video",
            "Samples Stable Video Diffusion with a guidance that rises from the first frame to the last.",
            ("svd", "image to video", "linear cfg"),
            [
                *_wires(negative_needed=True),
                *_common(),
                io.Float.Input(
                    "min_cfg", default=1.0, min=0.0, max=100.0, step=0.1, tooltip="Guidance at the first frame."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        settings: Settings,
        positive: Any,
        negative: Any,
        latent: Any,
        seed: int,
        denoise: float,
        min_cfg: float,
    ) -> io.NodeOutput:
        conds = {"positive": positive, "negative": negative}
        values: dict[str, Any] = {"seed": seed, "denoise": denoise, "min_cfg": min_cfg}
        return io.NodeOutput(wiring.sample_video(stock, model, settings, latent=latent, **conds, **values))


class AtelierSampleRefined(io.ComfyNode):
    """Two KSamplerAdvanced: SDXL's base draws most of it, the refiner the rest."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return _schema(
            "AtelierSampleRefined",
            "Sample: base and refiner",
            "SDXL's base model draws the first steps, the refiner the last ones, as the template does.",
            ("sdxl", "refiner"),
            [
                *_wires(negative_needed=True),
                io.Model.Input("refiner", tooltip="The refiner, from Load SDXL."),
                io.Conditioning.Input("refiner_positive", tooltip="The prompt through the refiner's own encoder."),
                io.Conditioning.Input(
                    "refiner_negative", tooltip="The negative prompt through the refiner's own encoder."
                ),
                *_common(denoise=False),
                io.Float.Input(
                    "base_share",
                    default=0.8,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="The share of steps that the base draws.",
                ),
            ],
        )

    @classmethod
    def execute(cls, model: Any, settings: Settings, **wires: Any) -> io.NodeOutput:
        return io.NodeOutput(wiring.sample_refined(stock, model, settings, **wires))


SAMPLE_NODES: list[type[io.ComfyNode]] = [
    AtelierSample,
    AtelierSampleTurbo,
    AtelierSampleGuided,
    AtelierSampleEdit,
    AtelierSampleVideo,
    AtelierSampleRefined,
]
