"""What is added to FLUX.1's attention between texts, style tokens and picture: how much a style counts.

Source: ComfyUI ``nodes.py`` (``StyleModelApply``) and ``comfy/utils.py`` (``upscale_dit_mask``). A mask is [batch,
tokens, tokens] of text and picture, whose tokens are `size` rows and columns; 0 leaves attention as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch


def with_style(
    mask: torch.Tensor | None, size: Sequence[int], *, batch: int, text: int, style: int, strength: float
) -> torch.Tensor:
    """The mask for a text of `text` tokens behind which `style` tokens are put that count `strength` times.

    Args:
        mask: for the text as it was, or None.
    """
    picture = size[0] * size[1]
    if mask is None:
        mask = torch.zeros((batch, text + picture, text + picture), dtype=torch.float16)
    if mask.dtype == torch.bool:
        mask = torch.log(mask.to(torch.float16))
    whole = text + style + picture
    made = torch.zeros((batch, whole, whole), dtype=torch.float16)
    behind = slice(text + style, whole)
    made[:, :text, :text] = mask[:, :text, :text]
    made[:, :text, behind] = mask[:, :text, text:]
    made[:, behind, :text] = mask[:, text:, :text]
    made[:, behind, behind] = mask[:, text:, text:]
    bias = torch.log(torch.tensor([strength]))
    made[:, :text, text : text + style] = bias
    made[:, behind, text : text + style] = bias
    return made


def enlarged(mask: torch.Tensor, old: Sequence[int], new: Sequence[int]) -> torch.Tensor:
    """The mask for a picture of `new` rows and columns of tokens instead of `old`, bilinear."""
    if tuple(old) == tuple(new):
        return mask
    if mask.ndim == 2:
        mask = mask.unsqueeze(0)
    text = mask.shape[1] - old[0] * old[1]
    to_picture = _keys(mask[:, :text, text:], old, new)
    from_picture = _keys(mask[:, text:, :text].transpose(1, 2), old, new).transpose(1, 2)
    within = _keys(_keys(mask[:, text:, text:], old, new).transpose(1, 2), old, new).transpose(1, 2)
    upper = torch.cat([mask[:, :text, :text], to_picture], dim=2)
    return torch.cat([upper, torch.cat([from_picture, within], dim=2)], dim=1)


def _keys(mask: torch.Tensor, old: Sequence[int], new: Sequence[int]) -> torch.Tensor:
    """[batch, some, old tokens] as [batch, some, new tokens]."""
    planes = mask.reshape(*mask.shape[:2], *old)
    return torch.nn.functional.interpolate(planes, size=tuple(new), mode="bilinear").flatten(2)
