"""Depth of a picture by Depth Anything, as depth ControlNets want it: near is white."""

from __future__ import annotations

from typing import Any

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet, which DINOv2 was trained with."""

LONGEST_SIDE = 2072
"""Pixels; a panorama is scaled down to this, since attention grows with the square."""


def working_size(height: int, width: int, resolution: int, multiple: int) -> tuple[int, int]:
    """Height and width that the model sees: the shorter side is ``resolution``, both are multiples of its patches.

    Source: Depth Anything V2 (``infer_image``: lower bound, multiples of 14).
    """
    scale = min(resolution / min(height, width), LONGEST_SIDE / max(height, width))
    sides = (max(multiple, round(side * scale / multiple) * multiple) for side in (height, width))
    return next(sides), next(sides)


def depth_map(model: Any, image: Any, resolution: int, cut_far: float = 0.0) -> Any:
    """Relative depth of one picture: float32 [height, width] in 0..1 on the CPU, 1 is nearest.

    Args:
        model: `annotators.load` made it.
        image: float [height, width, 3] in 0..1.
        resolution: pixels of the shorter side while it works.
        cut_far: what is farther than this share of the depth is black.
    """
    import torch
    from torch.nn.functional import interpolate

    height, width = int(image.shape[0]), int(image.shape[1])
    size = working_size(height, width, resolution, int(model.config.patch_size or 14))
    device = next(model.parameters()).device
    pixels = image.to(device, torch.float32).movedim(-1, 0)[None]
    pixels = interpolate(pixels, size=size, mode="bicubic", antialias=True).clamp(0.0, 1.0)
    mean, deviation = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (MEAN, DEVIATION))
    with torch.inference_mode():
        depth = model(pixel_values=(pixels - mean) / deviation).predicted_depth
    depth = interpolate(depth[None].float(), size=(height, width), mode="bicubic", align_corners=False)[0, 0]
    low, high = depth.amin(), depth.amax()
    near = ((depth - low) / (high - low).clamp_min(1e-12)).clamp(0.0, 1.0)
    if cut_far > 0.0:
        near = torch.where(near < cut_far, torch.zeros_like(near), near)
    return near.cpu()
