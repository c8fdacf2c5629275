"""HunyuanImage-3.0: behind an OpenAI-compatible server (vLLM-Omni, over several cards), or on this machine."""

# mypy: disable-error-code="import-not-found, misc, no-any-return"
# Type checkers have no ComfyUI at hand: neither its modules nor its base classes are known to them.

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..catalogue.settings import RATIOS
from . import local_hunyuan, remote_openai
from .errors import NodeInputError
from .nodes_remote import prompt_input, seed_input, tensor, timeout_input
from .remote_access import IMAGES, trusts_model_code
from .remote_run import ask
from .schema import node_schema
from .stock import folder_roots, free_models, show_progress

GROUP = "remote models"
AS_SERVER = "as the server likes"
AS_MODEL = "as the model likes"


class AtelierHunyuanImage3(io.ComfyNode):
    """HunyuanImage-3.0, or any model, behind ``/v1/images``."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="AtelierHunyuanImage3",
            display_name="HunyuanImage 3.0 (server)",
            group=GROUP,
            description="Pictures from an OpenAI-compatible server: vLLM-Omni with HunyuanImage-3.0, or any other. "
            "The server is named in ATELIER_IMAGES_URL.",
            aliases=("hunyuan", "vllm", "openai", "images", "api", "edit", "remote"),
            inputs=[
                prompt_input(),
                io.String.Input("negative_prompt", default="", multiline=True, tooltip="What it should not show."),
                io.Combo.Input(
                    "aspect_ratio",
                    options=[AS_SERVER, *RATIOS],
                    tooltip="Width to height; the server may round the size to one of its own.",
                ),
                io.Float.Input("megapixels", default=1.0, min=0.1, max=8.0, step=0.05, tooltip="The picture's area."),
                io.Int.Input("steps", default=0, min=0, max=200, tooltip="Sampling steps; 0: the server's own."),
                io.Float.Input(
                    "guidance", default=0.0, min=0.0, max=30.0, step=0.1, tooltip="Guidance; 0: the server's own."
                ),
                io.Int.Input("batch_size", default=1, min=1, max=10, tooltip="How many pictures at once."),
                seed_input(),
                timeout_input(900),
                io.Image.Input("images", optional=True, tooltip="Pictures to edit or to take things from (a batch)."),
                io.String.Input("model", default="", optional=True, tooltip="Its name there; empty: as configured."),
                io.String.Input(
                    "server", default="", optional=True, tooltip="One of the configured addresses; empty: the first."
                ),
            ],
            outputs=[
                io.Image.Output(tooltip="The pictures."),
                io.String.Output(display_name="report", tooltip="The tokens that the server counted, if it tells."),
                io.String.Output(display_name="prompt", tooltip="The prompt that the server drew, if it rewrote it."),
            ],
        )

    @classmethod
    async def execute(
        cls,
        prompt: str,
        negative_prompt: str,
        aspect_ratio: str,
        megapixels: float,
        steps: int,
        guidance: float,
        batch_size: int,
        seed: int,
        timeout: int,  # noqa: ASYNC109 - the widget's name; asyncio.timeout does the work
        images: Any = None,
        model: str = "",
        server: str = "",
    ) -> io.NodeOutput:
        access = IMAGES.access()
        base, head, hosts = remote_openai.connection(IMAGES, access, server)
        fields = remote_openai.image_fields(
            prompt=prompt,
            model=model or access.model,
            size=_size(aspect_ratio, megapixels),
            count=batch_size,
            seed=seed,
            steps=steps,
            guidance=guidance,
            negative=negative_prompt,
        )
        pictures = [] if images is None else [picture[..., :3].cpu().float().numpy() for picture in images]
        show_progress("waiting for the server", None)
        found = await ask(
            "the server", hosts, access, timeout,
            lambda client: remote_openai.images(client, base, head, fields, pictures),
        )  # fmt: skip
        show_progress(found.report, 1.0)
        return io.NodeOutput(tensor(list(found.files), "the server"), found.report, found.revised_prompt or prompt)


def _size(aspect_ratio: str, megapixels: float) -> tuple[int, int] | None:
    """Width and height in pixels, multiples of 16."""
    if aspect_ratio not in RATIOS:
        return None
    area, ratio = megapixels * 1_048_576, RATIOS[aspect_ratio]
    sides = ((area * ratio) ** 0.5, (area / ratio) ** 0.5)
    width, height = (max(16, round(side / 16) * 16) for side in sides)
    return width, height


class AtelierHunyuanImage3Local(io.ComfyNode):
    """HunyuanImage-3.0 on this machine."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        names = list(local_hunyuan.folders(folder_roots("diffusers")))
        return node_schema(
            node_id="AtelierHunyuanImage3Local",
            display_name="HunyuanImage 3.0 (this machine)",
            group=GROUP,
            description=f"HunyuanImage-3.0 from models/diffusers, by its own code. Needs more than "
            f"{local_hunyuan.NEEDS_GB} GB of memory, and ATELIER_TRUST_MODEL_CODE=1.",
            aliases=("hunyuan", "tencent", "local", "transformers"),
            inputs=[
                io.Combo.Input("folder", options=names, tooltip="A folder below models/diffusers with its repository."),
                prompt_input(),
                io.Combo.Input(
                    "aspect_ratio",
                    options=[AS_MODEL, *RATIOS],
                    tooltip="Width to height, at the model's own area of about 1 megapixel.",
                ),
                io.Int.Input("steps", default=50, min=1, max=200, tooltip="50; the distilled model takes 8."),
                seed_input(),
            ],
            outputs=[io.Image.Output(tooltip="The picture.")],
        )

    @classmethod
    def execute(cls, folder: str, prompt: str, aspect_ratio: str, steps: int, seed: int) -> io.NodeOutput:
        import torch

        places = local_hunyuan.folders(folder_roots("diffusers"))
        if folder not in places:
            raise NodeInputError(f"'{folder}' in models/diffusers holds no HunyuanImage-3.0; put its repository there")
        local_hunyuan.check_allowed(places[folder], trusts_model_code())
        free_models()
        model = local_hunyuan.load(places[folder])
        size = _size(aspect_ratio, 1.0)
        made = local_hunyuan.draw(model, prompt=prompt, seed=seed, size=size, steps=steps)
        return io.NodeOutput(torch.stack([torch.from_numpy(picture) for picture in made]))


HUNYUAN3_NODES: list[type[io.ComfyNode]] = [AtelierHunyuanImage3, AtelierHunyuanImage3Local]
