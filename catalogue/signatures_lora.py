"""LoRAs by the names of the modules they change and the widths of those modules.

The same module has many names: kohya's ``lora_unet_double_blocks_0_img_attn_qkv``, diffusers'
``transformer.transformer_blocks.0...``, peft's ``base_model.model...``, LyCORIS' ``lycoris_...``. Names are made
alike first (dots to underscores, endings cut), then read. Where the facts come from: ComfyUI's ``comfy/lora.py``
(model_lora_keys_unet, model_lora_keys_clip, 0.33.0).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from .detection import Detection
from .header import Header

_INPUT_SIDE = (
    ".lora_down.weight",
    ".lora_A.weight",
    ".lora_A.default.weight",
    ".lora.down.weight",
    "_lora.down.weight",
    ".lora_linear_layer.down.weight",
    ".lora_A",
    ".a1.weight",
    ".hada_w1_b",
    ".lokr_w1",
    ".lokr_w1_b",
    ".diff",
    ".set_weight",
    ".oft_blocks",
    ".oft_diag",
    ".w_norm",
)
"""How the tensor ends that tells a module's input width, one for each module; LoKr needs a second one too."""

_USO_SIDE = ("_lora1.down.weight", "_lora2.down.weight")
_SECOND_SIDE = {".lokr_w1": (".lokr_w2", ".lokr_w2_b"), ".lokr_w1_b": (".lokr_w2", ".lokr_w2_b")}
_OTHER_SIDE = (
    ".lora_up.weight",
    ".lora_mid.weight",
    ".lora_B.weight",
    ".lora_B.default.weight",
    ".lora.up.weight",
    "_lora.up.weight",
    "_lora1.up.weight",
    "_lora2.up.weight",
    ".lora_linear_layer.up.weight",
    ".lora_B",
    ".lora_B.bias",
    ".a2.weight",
    ".b1.weight",
    ".b2.weight",
    ".hada_w1_a",
    ".hada_w2_a",
    ".hada_w2_b",
    ".hada_t1",
    ".hada_t2",
    ".lokr_w1_a",
    ".lokr_w2",
    ".lokr_w2_a",
    ".lokr_w2_b",
    ".lokr_t2",
    ".diff_b",
    ".dora_scale",
    ".b_norm",
    ".reshape_weight",
)
_ALL_SIDES = _INPUT_SIDE + _USO_SIDE + _OTHER_SIDE
_SAMPLE, _RUN = 64, 4
"""So many names tell whether a file is a LoRA, taken evenly in short runs (a module's tensors stand together)."""

_PREFIXES = (
    ("lora_unet_", "kohya"),
    ("lora_transformer_", "onetrainer"),
    ("lycoris_", "lycoris"),
    ("base_model.model.", "peft"),
    ("unet.base_model.model.", "peft"),
    ("transformer.", "diffusers"),
    ("unet.", "diffusers"),
    ("diffusion_model.", "comfyui"),
    ("model.diffusion_model.", "comfyui"),
    ("pipe.dit.", "diffsynth"),
)
_TEXT = ("lora_te", "text_encoder", "lora_prior_te_", "te1.", "te2.", "te3.")
_BLOCK = re.compile(r"[\n_](double_blocks|single_blocks|transformer_blocks|single_transformer_blocks)_(\d+)_")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Modules:
    """A LoRA's modules of the diffusion model (name with underscores -> width of its input, 0 unknown) and of the
    encoders.
    """

    model: dict[str, int]
    text: dict[str, int]
    format: str
    words: str
    """The names of ``model``, a line each: one text is searched quicker than many."""

    def any(self, *words: str) -> bool:
        return any(word in self.words for word in words)

    def width(self, *endings: str) -> int:
        """The input width of the first module that ends so."""
        return next((width for name, width in self.model.items() if width and name.endswith(endings)), 0)

    def last(self, block: str) -> int:
        """The highest block number of a kind; -1 where there is none."""
        numbers = {int(number) for kind, number in _BLOCK.findall(self.words) if kind == block}
        return max(numbers, default=-1)


def is_lora(header: Header) -> bool:
    """Whether the tensors are changes to a model's weights rather than weights (``.alpha`` counts neither way)."""
    names = list(header.shapes)
    apart = max(_RUN, len(names) * _RUN // _SAMPLE)
    runs = (names[start : start + _RUN] for start in range(0, len(names), apart))
    sample = [name for run in runs for name in run if not name.endswith(".alpha")]
    matched = sum(name.endswith(_ALL_SIDES) for name in sample)
    return matched * 4 >= max(1, len(sample))


def detect_lora(header: Header) -> Detection | None:
    """A LoRA (also LoHa, LoKr, OFT, DoRA, full differences) and the family it changes; None where it is none."""
    if not is_lora(header):
        return None
    modules = _modules(header)
    for rule in (_flux_or_hunyuan, _hidream, _transformer_blocks, _joint_blocks, _unet, _stranger, _text_only):
        found = rule(modules)
        if found is not None:
            family, architecture, traits, label = found
            return Detection(
                kind="lora",
                families=(family,) if family else (),
                architecture=architecture or None,
                traits=traits,
                format=modules.format,
                label=label,
            )
    return Detection(kind="lora", format=modules.format, label="a model that no known signature fits")


_Found = tuple[str, str, tuple[str, ...], str | None]


def _modules(header: Header) -> _Modules:
    model: dict[str, int] = {}
    text: dict[str, int] = {}
    forms: dict[str, int] = {}
    sides = _INPUT_SIDE + _USO_SIDE
    ending = form = before = ""
    for name, shape in header.shapes.items():
        if not name.endswith(sides):
            continue
        if not (ending and name.endswith(ending)):  # mostly one file has one ending and one prefix
            ending = next(side for side in sides if name.endswith(side))
        module = name[: -len(ending)]
        width = _input_width(header, module, ending, shape)
        if module.startswith(_TEXT):
            text[module.replace(".", "_")] = width
            continue
        if not (before and module.startswith(before)):
            before, form = _prefix(module)
        forms[form] = forms.get(form, 0) + 1
        model[module[len(before) :].replace(".", "_")] = width
    chosen = max(forms, key=lambda form: forms[form]) if forms else "kohya"
    return _Modules(model=model, text=text, format=chosen, words="\n" + "\n".join(model) + "\n")


def _prefix(module: str) -> tuple[str, str]:
    """What stands before a module's own name (prefixes may follow each other), and whose way of naming that is."""
    before = form = ""
    while found := next((pair for pair in _PREFIXES if module.startswith(pair[0], len(before))), None):
        before += found[0]
        form = form or found[1]
    return before, form or "plain"


def _input_width(header: Header, module: str, ending: str, shape: tuple[int, ...]) -> int:
    """The input width of a changed module; 0 where its tensors do not tell (OFT, norms)."""
    if len(shape) < 2 or ending.startswith(".oft"):
        return 0
    for second in _SECOND_SIDE.get(ending, ()):
        if module + second in header:
            return shape[1] * header.size(module + second, 1)
    return shape[1]


def _flux_or_hunyuan(modules: _Modules) -> _Found | None:
    if not modules.any("double_blocks_", "single_blocks_", "single_transformer_blocks_"):
        return None
    width = modules.width(
        "img_attn_qkv",
        "img_attn_proj",
        "img_mlp_0",
        "img_mlp_fc1",
        "attn_to_q",
        "attn_to_k",
        "linear1",
        "processor_qkv",
    )
    doubles, singles = modules.last("double_blocks"), modules.last("single_blocks")
    singles = max(singles, modules.last("single_transformer_blocks"))
    doubles = max(doubles, modules.last("transformer_blocks"))
    if width == 3584:
        return "hunyuan-image", "hunyuan-image-2.1", (), None
    if width == 6144 or modules.any("double_stream_modulation_", "single_stream_modulation_"):
        return "", "", (), "FLUX.2"
    if doubles > 18 or singles > 37 or modules.any("txt_in_individual_token_refiner", "context_embedder_token_refiner"):
        return "", "", (), "HunyuanVideo"
    if modules.any("distilled_guidance_layer"):
        return "", "", (), "Chroma"
    if width not in (3072, 0):
        return "", "", (), f"a relative of FLUX.1 with {width} channels"
    control = modules.width("img_in", "x_embedder") == 128
    return "flux1", "flux1", ("control",) if control else (), None


def _hidream(modules: _Modules) -> _Found | None:
    if modules.any("double_stream_blocks_", "single_stream_blocks_") and modules.any(
        "block_attn", "block_ff_i", "adaLN"
    ):
        return "hidream", "hidream", (), None
    return None


def _transformer_blocks(modules: _Modules) -> _Found | None:
    """diffusers' transformers without single blocks: Qwen-Image and Stable Diffusion 3.5."""
    if not modules.any("\ntransformer_blocks_"):
        return None
    width = modules.width(
        "attn_to_q", "attn_to_k", "attn_to_v", "img_mlp_net_0_proj", "attn_add_q_proj", "attn_to_out_0"
    )
    if width == 3072 and not modules.any("ff_net_", "norm1_linear", "caption_projection", "adaln_single"):
        layered = ("layered",) if modules.any("addition_t_embedding") else ()
        return "qwen-image", "qwen-image-layered" if layered else "qwen-image", layered, None
    if modules.any("add_q_proj", "add_k_proj", "add_v_proj", "norm1_context", "ff_context") or width in (1536, 2432):
        if width == 2432:
            return "sd3.5", "sd3.5-large", (), None
        if width == 1536:
            return _medium(modules.any("_attn2_"))
    return "", "", (), "a transformer in diffusers' names (PixArt, LTX-Video, Wan ...)"


def _joint_blocks(modules: _Modules) -> _Found | None:
    if not modules.any("joint_blocks_"):
        return None
    width = modules.width("attn_qkv", "mlp_fc1", "attn_proj", "adaLN_modulation_1")
    if width == 2432:
        return "sd3.5", "sd3.5-large", (), None
    if width == 1536:
        return _medium(modules.any("_attn2_"))
    return "", "", (), f"a relative of Stable Diffusion 3 with {width} channels"


def _medium(second_attention: bool) -> _Found:
    # Stable Diffusion 3 Medium has the same width and depth; only 3.5's first 13 blocks have a second attention.
    return ("sd3.5", "sd3.5-medium", () if second_attention else ("sd3",), None)


_CROSS = ("attn2_to_k", "attn2_to_v", "attn2_processor_to_k", "attn2_processor_to_v")
_WIDTHS = {768: ("sd1", "sd1"), 1024: ("sd2", "sd2"), 2048: ("sdxl", "sdxl"), 1280: ("sdxl", "sdxl-refiner")}
_UNET_WORDS = ("down_blocks_", "up_blocks_", "mid_block_", "input_blocks_", "output_blocks_", "middle_block_")


def _unet(modules: _Modules) -> _Found | None:
    if not modules.any(*_UNET_WORDS):
        return None
    if modules.any("temporal_transformer_blocks_", "time_stack_", "time_mix_blocks_"):
        return "svd", "svd", (), None
    if modules.any("motion_modules_"):
        return "", "", (), "AnimateDiff"
    width = modules.width(*_CROSS)
    if width in _WIDTHS:
        return (*_WIDTHS[width], (), None)
    # Without cross-attention: SDXL alone has ten transformer blocks in a row and a second text encoder.
    deep = modules.any("transformer_blocks_2_", "transformer_blocks_9_")
    if deep or any(name.startswith(("lora_te2_", "text_encoder_2")) for name in modules.text):
        return "sdxl", "sdxl", (), None
    told = _text_only(modules)
    if told is not None:
        return told
    if modules.any("down_blocks_3_", "input_blocks_10_", "input_blocks_11_", "up_blocks_3_", "output_blocks_11_"):
        return "", "", (), "Stable Diffusion 1.x or 2.x (its modules do not tell which)"
    return "", "", (), "a UNet (its modules do not tell which)"


def _text_only(modules: _Modules) -> _Found | None:
    """A LoRA's text encoder modules: CLIP-L alone means SD 1, CLIP-H SD 2, a second encoder SDXL."""
    if not modules.text:
        return None
    if any(name.startswith(("lora_te2_", "text_encoder_2", "lora_te3_", "text_encoder_3")) for name in modules.text):
        t5 = any("SelfAttention" in name or "DenseReluDense" in name for name in modules.text)
        return ("", "", (), "a model with T5-XXL (SD 3.5 or FLUX.1)") if t5 else ("sdxl", "sdxl", (), None)
    widths = {width for name, width in modules.text.items() if width and name.endswith(("q_proj", "k_proj", "v_proj"))}
    if len(widths) == 1 and (width := widths.pop()) in (768, 1024):
        return (*_WIDTHS[width], (), None)
    return None


_STRANGE_MODULES: Iterable[tuple[str, tuple[str, ...]]] = (
    ("Wan", ("blocks_0_cross_attn_k", "blocks_0_self_attn_q", "blocks_1_cross_attn_k", "blocks_1_self_attn_q")),
    ("Lumina 2 or Z-Image", ("layers_0_attention_", "layers_1_attention_", "layers_2_attention_")),
    ("AuraFlow", ("double_layers_", "single_layers_")),
    ("Hunyuan-DiT", ("blocks_0_attn1_Wqkv", "blocks_1_attn1_Wqkv")),
    ("Stable Cascade", ("down_blocks_0_2_attention_", "down_blocks_1_2_attention_")),
)


def _stranger(modules: _Modules) -> _Found | None:
    for label, words in _STRANGE_MODULES:
        if modules.any(*words):
            return "", "", (), label
    return None


def module_names(header: Header) -> list[str]:
    """The modules that a LoRA changes, each once, as the file names them; empty for other files."""
    sides = _INPUT_SIDE + _USO_SIDE
    names = (name for name in header.shapes if name.endswith(sides))
    return list(dict.fromkeys(name[: -len(next(side for side in sides if name.endswith(side)))] for name in names))
