"""Training the ControlNet: things stand where an edge map has their outlines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .denoising import Examples, flow_loss, plain_attention
from .drawing import draw
from .networks import SIDE
from .scenes import Scene
from .training import Course, Place, learn

if TYPE_CHECKING:
    import torch
    from diffusers import ControlNetModel, UNet2DConditionModel
    from transformers import CLIPTextModel

COURSE = Course(steps=450, batch=24, rate=1.5e-3, warm=40, decay=0.0, average=0.99, seed=104)
SCENES = 2000  # the first of those that the denoiser learned from
LOW, HIGH = 0.2, 0.5  # the Canny node's thresholds that the maps are made with


def edge_maps(pictures: torch.Tensor) -> torch.Tensor:
    """White outlines on black of pictures [batch, 3, rows, columns] in 0..1, as ComfyUI's Canny node makes them:
    float32 [batch, 1, rows, columns].
    """
    from kornia.filters import canny

    edges: torch.Tensor = canny(pictures, LOW, HIGH)[1]
    return edges


def maps_of(scenes: Sequence[Scene], device: str, chunk: int = 16) -> torch.Tensor:
    """The edge maps of scenes, bool [count, 1, SIDE, SIDE]: `edge_maps`, a hundred times as fast for thousands.

    Its last stage (a faint edge stays where it touches a clear one) is connected components here, not a loop over the
    whole batch.
    """
    import numpy as np
    import torch
    from kornia.filters import canny
    from scipy.ndimage import label

    touching = np.ones((3, 3), bool)
    found = []
    for start in range(0, len(scenes), chunk):
        pictures = draw(scenes[start : start + chunk], SIDE, device=device)
        for edges in canny(pictures, LOW, HIGH, hysteresis=False)[1][:, 0].cpu().numpy():
            pieces, count = label(edges > 0, touching)
            clear = np.zeros(count + 1, bool)
            clear[pieces[edges == 1]] = True
            clear[0] = False
            found.append(torch.from_numpy(clear[pieces]))
    return torch.stack(found)[:, None]


def residuals(control: ControlNetModel, latents: Any, timesteps: Any, heard: Any, maps: Any) -> dict[str, Any]:
    """What the U-Net is handed: the ControlNet's answers for these maps."""
    down, middle = control(latents, timesteps, heard, controlnet_cond=maps, return_dict=False)
    return {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}


def begin_at(control: ControlNetModel, network: UNet2DConditionModel) -> None:
    """Start the ControlNet as a copy of the U-Net's first half (Zhang et al., arXiv 2302.05543)."""
    own = control.state_dict()
    control.load_state_dict(
        {name: tensor for name, tensor in network.state_dict().items() if name in own}, strict=False
    )


def train_control(
    control: ControlNetModel,
    network: UNet2DConditionModel,
    text: CLIPTextModel,
    examples: Examples,
    maps: torch.Tensor,
    course: Course,
    place: Place,
    say: Callable[[str], None],
) -> float:
    """Teach the ControlNet on examples with their edge maps; the network itself stays. Returns seconds a step."""
    import torch

    network.requires_grad_(False)
    text.requires_grad_(False)
    plain_attention(network)
    plain_attention(control)
    control.to(place.device, memory_format=torch.channels_last).train()

    def extra(
        chosen: torch.Tensor, latents: torch.Tensor, timesteps: torch.Tensor, heard: torch.Tensor
    ) -> dict[str, Any]:
        shown = maps[chosen].to(place.device).float().expand(-1, 3, -1, -1)
        return residuals(control, latents, timesteps, heard, shown.contiguous(memory_format=torch.channels_last))

    pace = learn(
        "control",
        control.parameters(),
        lambda step: flow_loss(network, text, examples, course.batch, place, extra),
        course,
        say,
    )
    control.eval()
    return pace
