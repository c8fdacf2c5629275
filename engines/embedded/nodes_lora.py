"""LoRA files on a model and its text encoders."""

from __future__ import annotations

from .context import Context
from .diffusion.encoders import Clip
from .diffusion.files import model_file, model_inputs
from .diffusion.loading import weights_at
from .diffusion.lora_application import applied
from .diffusion.values import Model
from .registry import NodeGroup

NODES = NodeGroup()


@NODES.node("LoraLoader", **model_inputs(lora_name="loras"))
def load_lora(
    model: Model | None,
    clip: Clip | None,
    lora_name: str,
    strength_model: float,
    strength_clip: float,
    *,
    context: Context,
) -> tuple[Model | None, Clip | None]:
    """Model and text encoders with a LoRA; keys without a place are logged and left out."""
    if strength_model == 0 and strength_clip == 0:
        return model, clip
    file = weights_at(model_file(context, "loras", lora_name))
    return applied(model, clip, file, strength_model, strength_clip)


@NODES.node("LoraLoaderModelOnly", **model_inputs(lora_name="loras"))
def load_lora_model_only(model: Model, lora_name: str, strength_model: float, *, context: Context) -> Model | None:
    """The model with a LoRA."""
    changed: Model | None = load_lora(model, None, lora_name, strength_model, 0.0, context=context)[0]
    return changed
