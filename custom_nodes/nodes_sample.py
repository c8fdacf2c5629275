"""One sampler for each way of sampling; what they give equals stock nodes wired by hand with the same values."""

# mypy: disable-error-code="import-not-found, misc, no-any-return"
# Type checkers have no ComfyUI at hand: neither its modules nor its base classes are known to them.

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .errors import NodeInputError
from .schema import SettingsType, node_schema
from .settings import Settings
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


def guided(settings: Settings, positive: Any) -> Any:
    """The positive conditioning with the model's guidance, unless a FluxGuidance node has set one already."""
    guidance = settings.sampling.guidance
    if guidance is None or any("guidance" in options for _, options in positive):
        return positive
    return stock("FluxGuidance", conditioning=positive, guidance=guidance)[0]


def conditions(settings: Settings, positive: Any, negative: Any) -> tuple[Any, Any]:
    """Both conditionings as the templates wire them: where none is given, the negative is the positive without
    content.
    """
    if negative is None:
        if settings.sampling.cfg != 1.0:
            name = settings.variant.name
            raise NodeInputError(
                f"{name} samples with cfg {settings.sampling.cfg}: wire a negative prompt (it may be empty)"
            )
        negative = stock("ConditioningZeroOut", conditioning=positive)[0]
    return guided(settings, positive), negative


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
        sampling = settings.sampling
        positive, negative = conditions(settings, positive, negative)
        inputs = {"steps": sampling.steps, "cfg": sampling.cfg, "sampler_name": sampling.sampler}
        inputs |= {"scheduler": sampling.scheduler, "positive": positive, "negative": negative}
        return io.NodeOutput(*stock("KSampler", model=model, seed=seed, latent_image=latent, denoise=denoise, **inputs))


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
        sampling = settings.sampling
        positive, negative = conditions(settings, positive, negative)
        inputs = {"sampler": stock("KSamplerSelect", sampler_name=sampling.sampler)[0], "latent_image": latent}
        inputs["sigmas"] = stock("SDTurboScheduler", model=model, steps=sampling.steps, denoise=denoise)[0]
        inputs |= {"positive": positive, "negative": negative, "cfg": sampling.cfg}
        return io.NodeOutput(stock("SamplerCustom", model=model, add_noise=True, noise_seed=seed, **inputs)[0])


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
        guider = stock("BasicGuider", model=model, conditioning=guided(settings, positive))[0]
        return io.NodeOutput(_advanced(model, settings, guider, latent, seed, denoise))


def _advanced(model: Any, settings: Settings, guider: Any, latent: Any, seed: int, denoise: float) -> Any:
    sampling = settings.sampling
    noise = stock("RandomNoise", noise_seed=seed)[0]
    sampler = stock("KSamplerSelect", sampler_name=sampling.sampler)[0]
    steps = {"scheduler": sampling.scheduler, "steps": sampling.steps, "denoise": denoise}
    sigmas = stock("BasicScheduler", model=model, **steps)[0]
    return stock(
        "SamplerCustomAdvanced", noise=noise, guider=guider, sampler=sampler, sigmas=sigmas, latent_image=latent
    )[0]


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
        sampling = settings.sampling
        if sampling.cfg2 is None:
            raise NodeInputError(f"{settings.variant.name} has no second scale; use 'Sample' instead")
        scales = {"cfg_conds": sampling.cfg, "cfg_cond2_negative": sampling.cfg2, "style": "regular"}
        conds = {"cond1": positive, "cond2": picture, "negative": negative}
        guider = stock("DualCFGGuider", model=model, **conds, **scales)[0]
        return io.NodeOutput(_advanced(model, settings, guider, latent, seed, denoise))


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
        rising = stock("VideoLinearCFGGuidance", model=model, min_cfg=min_cfg)[0]
        return AtelierSample.execute(rising, settings, positive, latent, seed, denoise, negative)


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
    def execute(
        cls,
        model: Any,
        settings: Settings,
        positive: Any,
        negative: Any,
        latent: Any,
        refiner: Any,
        refiner_positive: Any,
        refiner_negative: Any,
        seed: int,
        base_share: float,
    ) -> io.NodeOutput:
        sampling = settings.sampling
        last = round(sampling.steps * base_share)
        same: dict[str, Any] = {"noise_seed": seed, "steps": sampling.steps, "cfg": sampling.cfg}
        same |= {"sampler_name": sampling.sampler, "scheduler": sampling.scheduler}
        first = {"add_noise": "enable", "start_at_step": 0, "end_at_step": last, "return_with_leftover_noise": "enable"}
        base = {"model": model, "positive": positive, "negative": negative, "latent_image": latent}
        half = stock("KSamplerAdvanced", **base, **same, **first)[0]
        rest = {
            "add_noise": "disable",
            "start_at_step": last,
            "end_at_step": 10000,
            "return_with_leftover_noise": "disable",
        }
        conds = {"positive": refiner_positive, "negative": refiner_negative, "latent_image": half}
        return io.NodeOutput(*stock("KSamplerAdvanced", model=refiner, **conds, **same, **rest))


SAMPLE_NODES: list[type[io.ComfyNode]] = [
    AtelierSample,
    AtelierSampleTurbo,
    AtelierSampleGuided,
    AtelierSampleEdit,
    AtelierSampleVideo,
    AtelierSampleRefined,
]
