"""Prompts (the API's format) that use the demonstration model through stock nodes, for its tests and its contact sheet.

Every function takes a prompt's nodes and gives new ones; what comes in stays as it is.
"""

from __future__ import annotations

import copy
from typing import Any

from . import weights

Nodes = dict[str, dict[str, Any]]

SIDE = 256


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    """One node; an input that comes from another is ``[id, slot]``."""
    return {"class_type": class_type, "inputs": inputs}


def text_to_image(
    prompt: str, *, negative: str = "", seed: int = 1, steps: int = 20, cfg: float = 2.5, count: int = 1
) -> Nodes:
    """``count`` pictures of a prompt, saved."""
    return {
        "model": node("CheckpointLoaderSimple", ckpt_name=weights.CHECKPOINT),
        "positive": node("CLIPTextEncode", clip=["model", 1], text=prompt),
        "negative": node("CLIPTextEncode", clip=["model", 1], text=negative),
        "latent": node("EmptyLatentImage", width=SIDE, height=SIDE, batch_size=count),
        "draw": node(
            "KSampler",
            model=["model", 0],
            positive=["positive", 0],
            negative=["negative", 0],
            latent_image=["latent", 0],
            seed=seed,
            steps=steps,
            cfg=cfg,
            sampler_name="euler",
            scheduler="simple",
            denoise=1.0,
        ),
        "decode": node("VAEDecode", samples=["draw", 0], vae=["model", 2]),
        "save": node("SaveImage", images=["decode", 0], filename_prefix="demo"),
    }


def from_picture(nodes: Nodes, picture: str, denoise: float) -> Nodes:
    """Begin at a picture of the input folder, part of the way to noise."""
    found = copy.deepcopy(nodes)
    found["picture"] = node("LoadImage", image=picture)
    found["latent"] = node("VAEEncode", pixels=["picture", 0], vae=["model", 2])
    found["draw"]["inputs"]["denoise"] = denoise
    return found


def inpainted(nodes: Nodes, picture: str, left: int, top: int, width: int, height: int) -> Nodes:
    """Draw anew in a rectangle of a picture (pixels); the rest stays."""
    found = from_picture(nodes, picture, 1.0)
    found["encode"] = found.pop("latent")
    found["nowhere"] = node("SolidMask", value=0.0, width=SIDE, height=SIDE)
    found["there"] = node("SolidMask", value=1.0, width=width, height=height)
    found["mask"] = node(
        "MaskComposite", destination=["nowhere", 0], source=["there", 0], x=left, y=top, operation="add"
    )
    found["latent"] = node("SetLatentNoiseMask", samples=["encode", 0], mask=["mask", 0])
    return found


def striped(nodes: Nodes, strength: float = 1.0) -> Nodes:
    """With the LoRA."""
    found = copy.deepcopy(nodes)
    found["lora"] = node(
        "LoraLoader",
        model=["model", 0],
        clip=["model", 1],
        lora_name=weights.LORA,
        strength_model=strength,
        strength_clip=strength,
    )
    found["draw"]["inputs"]["model"] = ["lora", 0]
    return found


def outlined(nodes: Nodes, picture: str, strength: float = 1.0) -> Nodes:
    """With the ControlNet, held to the edges of a picture of the input folder."""
    found = copy.deepcopy(nodes)
    found["outlines"] = node("LoadImage", image=picture)
    found["edges"] = node("Canny", image=["outlines", 0], low_threshold=0.2, high_threshold=0.5)
    found["net"] = node("ControlNetLoader", control_net_name=weights.CONTROL)
    found["control"] = node(
        "ControlNetApplyAdvanced",
        positive=["positive", 0],
        negative=["negative", 0],
        control_net=["net", 0],
        image=["edges", 0],
        strength=strength,
        start_percent=0.0,
        end_percent=1.0,
    )
    found["draw"]["inputs"] |= {"positive": ["control", 0], "negative": ["control", 1]}
    return found
