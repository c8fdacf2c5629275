"""Training the LoRA: a style, stripes, as small changes to the denoiser's own weights.

The file has kohya's names (``lora_unet_….lora_up.weight``, ``….lora_down.weight``, ``….alpha``), which every tool
reads.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .denoising import Examples, flow_loss, plain_attention
from .training import Course, Place, learn

if TYPE_CHECKING:
    import torch
    from transformers import CLIPTextModel

COURSE = Course(steps=350, batch=16, rate=4e-3, warm=20, decay=0.0, average=0.98, seed=103)
SCENES = 800
RANK = 4
# The convolutions and attentions that draw: a style needs no word and no plan changed.
_LEARNS = re.compile(r"^(down_blocks\.[01]|up_blocks).*\.(conv1|conv2|to_q|to_k|to_v|to_out\.0)\.weight$")


class LowRank:
    """Pairs of small matrices beside a network's weights.

    Attributes:
        pairs: (up [out, rank], down [rank, in times the kernel's area]) by the weight's name.
    """

    def __init__(self, network: torch.nn.Module, rank: int, seed: int) -> None:
        import torch

        draw = torch.Generator().manual_seed(seed)
        self.network, self.rank = network, rank
        self.pairs: dict[str, tuple[torch.nn.Parameter, torch.nn.Parameter]] = {}
        for name, weight in network.named_parameters():
            if _LEARNS.match(name):
                wide = weight[0].numel()
                down = torch.randn(rank, wide, generator=draw) / wide**0.5
                up = torch.zeros(weight.shape[0], rank)
                self.pairs[name] = (
                    torch.nn.Parameter(up.to(weight.device)),
                    torch.nn.Parameter(down.to(weight.device)),
                )

    def parameters(self) -> list[torch.nn.Parameter]:
        """What learns."""
        return [part for pair in self.pairs.values() for part in pair]

    def changed(self, strength: float = 1.0) -> dict[str, torch.Tensor]:
        """The changed weights by name."""
        own = dict(self.network.named_parameters())
        return {
            name: own[name] + strength * (up @ down).reshape(own[name].shape) for name, (up, down) in self.pairs.items()
        }

    def __call__(self, *arguments: Any, **more: Any) -> Any:
        """The network's answer with the changed weights."""
        from torch.func import functional_call

        return functional_call(self.network, self.changed(), arguments, more)

    def tensors(self) -> dict[str, torch.Tensor]:
        """The file's tensors, with kohya's names."""
        import torch

        found: dict[str, torch.Tensor] = {}
        own = dict(self.network.named_parameters())
        for name, (up, down) in self.pairs.items():
            module = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
            shape = own[name].shape
            kernel = shape[2:]
            found[f"{module}.lora_up.weight"] = up.detach().reshape(shape[0], self.rank, *[1] * len(kernel))
            found[f"{module}.lora_down.weight"] = down.detach().reshape(self.rank, *shape[1:])
            found[f"{module}.alpha"] = torch.tensor(float(self.rank))
        return found


def kept(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As a file stores them: float16, each in one piece."""
    return {name: tensor.detach().cpu().half().contiguous() for name, tensor in tensors.items()}


def train_style(
    network: torch.nn.Module,
    text: CLIPTextModel,
    examples: Examples,
    course: Course,
    place: Place,
    say: Callable[[str], None],
) -> tuple[LowRank, float]:
    """Teach stripes on examples whose things are striped; the network itself stays. Returns it, and seconds a step."""
    network.requires_grad_(False)
    text.requires_grad_(False)
    plain_attention(network)
    change = LowRank(network, RANK, course.seed)
    pace = learn(
        "style",
        change.parameters(),
        lambda step: flow_loss(change, text, examples, course.batch, place),
        course,
        say,
    )
    return change, pace
