"""ControlNets of Stable Diffusion 1.x, 2.x and SDXL, unions among them, built from a file's tensors.

The first half of a U-Net, of diffusers' blocks, with convolutions that hand its outputs on. Layouts: Zhang et al. 2023
(arXiv 2302.05543, lllyasviel's ``control_model.…``), and diffusers' names. Unions: xinsir's (``control_add_embedding``,
``task_embedding``). Behaviour of ComfyUI 0.33.0 ``comfy/cldm/cldm.py``.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Sequence

import torch
from torch import nn

from ..diffusion.control import ControlInputs, ControlKind, ControlNet
from ..diffusion.unet_names import from_diffusers
from ..diffusion.values import Model, Residuals
from ..diffusion.weights import Component, State, WeightPatch, Weights
from ..problems import NodeProblem
from ..unet import UNetParts, load, mlp, through

UNION_TYPES = {
    "openpose": 0,
    "depth": 1,
    "hed/pidi/scribble/ted": 2,
    "canny/lineart/anime_lineart/mlsd": 3,
    "normal": 4,
    "segment": 5,
    "tile": 6,
    "repaint": 7,
}
"""What a union ControlNet's map may show -> its number."""

UNION_HEADS = 8
TYPE_WIDTH = 256  # of the vector that stands for whether a type is asked for


class ControlUNet(UNetParts):
    """What is added to a U-Net's outputs on their way.

    Args:
        state: the tensors in CompVis' names.
        heads, head_size: see `UNetParts`.
    """

    def __init__(self, state: State, *, heads: int | None = None, head_size: int | None = None) -> None:
        super().__init__(heads=heads, head_size=head_size)
        self.width = state["input_blocks.0.0.weight"].shape[0]
        self.time_embed = mlp(state, "time_embed")
        self.label_embed = mlp(state, "label_emb.0") if "label_emb.0.0.weight" in state else None
        self.down = self.blocks(state, "input_blocks")
        self.middle = nn.ModuleList(self.parts(state, "middle_block"))
        self.handed_on = self.blocks(state, "zero_convs")
        self.middle_out = nn.ModuleList(self.parts(state, "middle_block_out"))
        self.hint = _hint_encoder(state)
        self.union = _Union(state) if "task_embedding" in state else None

    def forward(
        self,
        x: torch.Tensor,
        timesteps: torch.Tensor,
        hint: torch.Tensor,
        context: torch.Tensor,
        label: torch.Tensor | None = None,
        types: Sequence[int] = (),
    ) -> dict[str, list[torch.Tensor]]:
        """What to add.

        Args:
            x: latent [batch, channels, rows, columns].
            hint: the map [batch, channels, 8 * rows, 8 * columns] in 0..1.
            types: what the map shows (`UNION_TYPES`); unions only.
        """
        told = self.told(x, timesteps, label)
        seen = self.hint(hint)
        if self.union is not None:
            told = told + self.union.told(types, told)
            seen = self.union.shown(seen, types)
        outputs: list[torch.Tensor] = []
        for number, (block, out) in enumerate(zip(self.down, self.handed_on, strict=True)):
            x = through(block, x, told, context)
            x = x + seen if number == 0 else x
            outputs.append(through(out, x, told, context))
        x = through(self.middle, x, told, context)
        return {"middle": [through(self.middle_out, x, told, context)], "output": outputs}


class _Union(nn.Module):
    """What a union ControlNet has besides: which type of map it is, told to every block and to the map's encoding."""

    def __init__(self, state: State) -> None:
        super().__init__()
        from diffusers.models.controlnets.controlnet_union import ResidualAttentionBlock
        from diffusers.models.embeddings import TimestepEmbedding

        self.types, width = state["task_embedding"].shape
        self.task: torch.Tensor = state["task_embedding"]
        out, into = state["control_add_embedding.linear_1.weight"].shape
        with torch.device("meta"):
            self.type_embed = TimestepEmbedding(into, out)
            self.mixed = ResidualAttentionBlock(width, UNION_HEADS)
            self.project = nn.Linear(width, state["spatial_ch_projs.weight"].shape[0])
        load(self.type_embed, state, "control_add_embedding")
        load(self.mixed, state, "transformer_layes.0")
        load(self.project, state, "spatial_ch_projs")

    def told(self, types: Sequence[int], like: torch.Tensor) -> torch.Tensor:
        """The types as the blocks are told them, [1, width]."""
        from diffusers.models.embeddings import get_timestep_embedding

        asked = torch.zeros(self.types, device=like.device)
        asked[list(types)] = 1.0
        vector = get_timestep_embedding(asked, TYPE_WIDTH, flip_sin_to_cos=True, downscale_freq_shift=0)
        told: torch.Tensor = self.type_embed(vector.to(like.dtype).reshape(1, -1))
        return told

    def shown(self, seen: torch.Tensor, types: Sequence[int]) -> torch.Tensor:
        """The map's encoding [batch, width, rows, columns] with what its type adds. One type counts, the first."""
        if not types:
            return seen
        mean = seen.mean(dim=(2, 3)) + self.task[types[0]].to(seen)
        # torch's attention looks along the first dimension; the file's order is [types, batch, width]
        added: torch.Tensor = self.project(self.mixed(mean.unsqueeze(0))[0])
        return seen + added[:, :, None, None]


def _hint_encoder(state: State) -> nn.Module:
    from diffusers.models.controlnets.controlnet import ControlNetConditioningEmbedding

    numbers = sorted(int(key.split(".")[1]) for key in state if re.fullmatch(r"input_hint_block\.\d+\.weight", key))
    shapes = [state[f"input_hint_block.{number}.weight"].shape for number in numbers]
    with torch.device("meta"):
        module = ControlNetConditioningEmbedding(
            conditioning_embedding_channels=shapes[-1][0],
            conditioning_channels=shapes[0][1],
            block_out_channels=(shapes[0][0], *(shape[0] for shape in shapes[2:-1:2])),
        )
    inner = [f"blocks.{place}" for place in range(len(numbers) - 2)]
    names = {str(number): name for number, name in zip(numbers, ["conv_in", *inner, "conv_out"], strict=True)}
    load(module, state, "input_hint_block", names)
    encoder: nn.Module = module
    return encoder


class UNetControl(ControlKind):
    """ControlNets of U-Nets.

    Args:
        heads: of every attention, None where a head is 64 wide.
        types: how many a union knows; 0 for others.
    """

    def __init__(self, *, heads: int | None, types: int = 0) -> None:
        self.heads = heads
        self.types = types

    def build(self, state: State) -> ControlUNet:
        """See `ControlKind.build`."""
        return ControlUNet(state, heads=self.heads).eval()

    def residuals(self, module: ControlUNet, inputs: ControlInputs) -> Residuals:
        """See `ControlKind.residuals`."""
        types: Sequence[int] = inputs.options.get("control_type", ())
        if self.types and any(number >= self.types for number in types):
            names = {number: name for name, number in UNION_TYPES.items()}
            raise NodeProblem(
                f"this union ControlNet knows {self.types} types of map, {names[max(types)]!r} is none of them",
                remedy="use the ProMax one, or another type",
            )
        label = inputs.told.get("label")
        if module.label_embed is not None and label is None:
            raise NodeProblem(
                "a ControlNet of SDXL was put on a model of another family", remedy="choose one for the model's family"
            )
        text = inputs.told.get("control_text", inputs.told["text"])
        wanted = next((m.to_k.weight.shape[1] for n, m in module.named_modules() if n.endswith("attn2")), text.shape[2])
        if text.shape[2] != wanted:
            raise NodeProblem(
                f"the ControlNet reads texts of width {wanted}, the model's is {text.shape[2]}",
                remedy="choose a ControlNet of the model's family",
            )
        added: Residuals = module(inputs.x, inputs.timestep, inputs.hint, text, label, types)
        return added


class ControlLora(UNetControl):
    """Stability's control LoRAs: the base model's own first half, with low-rank changes."""

    def __init__(self) -> None:
        super().__init__(heads=None)
        self._fitted: weakref.WeakKeyDictionary[Component, Component] = weakref.WeakKeyDictionary()

    def fitted(self, net: ControlNet, model: Model) -> Component:
        """See `ControlKind.fitted`."""
        found = self._fitted.get(model.component)
        if found is None:
            found = self._fitted[model.component] = _on_base(net.component.weights, model.component)
        return found


BORROWED = ("input_blocks.", "middle_block.", "time_embed.", "label_emb.")


def _on_base(own: Weights, base: Component) -> Component:
    """A control LoRA's tensors beside those of a base model's first half, as the model has them with its LoRAs."""
    if "input_blocks.0.0.weight" not in base.weights:
        raise NodeProblem(
            f"the control LoRA {own.source!r} was put on a model that is no U-Net",
            remedy="choose a ControlNet of the model's family",
        )
    whole = {name: own[name] for name in own if name.endswith((".weight", ".bias"))}
    names = {name for name in base.weights if name.startswith(BORROWED) and name not in whole}
    weights = base.weights.renamed(lambda name: name if name in names else None).with_tensors(whole)
    patches = [patch for patch in base.patches if patch.name in names]
    patches += [_low_rank(own, name.removesuffix(".up")) for name in own if name.endswith(".up")]
    build = UNetControl(heads=heads(base.weights)).build
    return Component(weights=weights, build=build, role="control", patches=tuple(patches))


def _low_rank(own: Weights, module: str) -> WeightPatch:
    def apply(weight: torch.Tensor) -> torch.Tensor:
        up, down = (own[f"{module}.{part}"].to(weight).flatten(start_dim=1) for part in ("up", "down"))
        return weight + (up @ down).reshape(weight.shape)

    return WeightPatch(name=f"{module}.weight", apply=apply)


def control(weights: Weights) -> ControlNet | None:
    """The ControlNet in a file; None where it is none of this kind."""
    if "lora_controlnet" in weights:
        kind: UNetControl = ControlLora()
    else:
        weights = named(weights)
        if "input_hint_block.0.weight" not in weights or "zero_convs.0.0.weight" not in weights:
            return None
        types = weights.shape("task_embedding")[0] if "task_embedding" in weights else 0
        kind = UNetControl(heads=heads(weights), types=types)
    kind.averaged = re.search(r"_shuffle(_fp16)?\.[^.]*$", weights.source) is not None
    return ControlNet(kind=kind, component=Component(weights=weights, build=kind.build, role="control"))


def heads(weights: Weights) -> int | None:
    """How many heads attention has: 8 in Stable Diffusion 1.x, else as many as are 64 wide (None)."""
    attention = re.compile(r"\.attn2\.to_k\.weight$")
    widths = {weights.shape(name)[1] for name in weights if attention.search(name)}
    flat = any(name.endswith(".1.proj_in.weight") and len(weights.shape(name)) == 2 for name in weights)
    return 8 if widths == {768} and not flat else None


def named(weights: Weights) -> Weights:
    """A file's tensors in CompVis' names without prefix, whether it has those or diffusers'."""
    if "controlnet_cond_embedding.conv_in.weight" not in weights:
        return weights.below("control_model.", "").renamed(lambda name: name.replace(".in_proj.", ".in_proj_"))
    names = from_diffusers(list(weights))
    hints = sorted(
        {int(name.split(".")[2]) for name in weights if name.startswith("controlnet_cond_embedding.blocks.")}
    )
    modules = {"controlnet_mid_block": "middle_block_out.0", "controlnet_cond_embedding.conv_in": "input_hint_block.0"}
    modules |= {f"controlnet_cond_embedding.blocks.{n}": f"input_hint_block.{2 * n + 2}" for n in hints}
    modules["controlnet_cond_embedding.conv_out"] = f"input_hint_block.{2 * len(hints) + 2}"
    for name in weights:
        module, _, kind = name.rpartition(".")
        if module.startswith("controlnet_down_blocks."):
            names[name] = f"zero_convs.{module.split('.')[1]}.0.{kind}"
        elif module in modules:
            names[name] = f"{modules[module]}.{kind}"
    return weights.renamed(lambda name: names.get(name, name))
