"""Layered prompts, negative presets, and prompts rewritten by a chat model."""

# mypy: disable-error-code="import-not-found, misc, no-any-return"
# Type checkers have no ComfyUI at hand: neither its modules nor its base classes are known to them.

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..catalogue.prompting import LAYERS, NEGATIVE_PRESETS, SEPARATORS, join, negative
from . import remote_openai, rewriting
from .errors import NodeInputError, RemoteError
from .remote_access import CHAT, Access
from .remote_run import ask
from .schema import node_schema
from .stock import show_progress

GROUP = "prompt"
STOP, KEEP = "stop", "keep the prompt"
_TOOLTIPS = {
    "subject": "Who or what is shown: 'a red fox'.",
    "scene": "Where and when: 'in a snowy forest at dawn'.",
    "details": "What to notice: 'frost on its whiskers'.",
    "lighting": "Where the light comes from: 'soft backlight'.",
    "mood": "How it feels: 'calm'.",
    "style": "How it is made: '35 mm photograph'.",
}


class AtelierLayeredPrompt(io.ComfyNode):
    """One text from subject, scene, details, lighting, mood and style."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="AtelierLayeredPrompt",
            display_name="Layered Prompt",
            group=GROUP,
            description="Writes one prompt from layers; empty ones are left out. Change one and keep the others.",
            aliases=("prompt builder", "text", "compose prompt", "positive"),
            inputs=[
                *(io.String.Input(layer, default="", multiline=True, tooltip=_TOOLTIPS[layer]) for layer in LAYERS),
                io.Combo.Input(
                    "joined_by",
                    options=list(SEPARATORS),
                    default="commas",
                    tooltip="Commas suit SD and SDXL, sentences suit FLUX, Qwen-Image and HiDream.",
                ),
            ],
            outputs=[io.String.Output(tooltip="The prompt, for a text encoder.")],
        )

    @classmethod
    def execute(cls, joined_by: str, **layers: str) -> io.NodeOutput:
        return io.NodeOutput(join((layers[layer] for layer in LAYERS), joined_by))


class AtelierNegativePrompt(io.ComfyNode):
    """A negative prompt from a preset and one's own words."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="AtelierNegativePrompt",
            display_name="Negative Prompt",
            group=GROUP,
            description="A negative prompt from a preset, with your own words added. Models with cfg 1 ignore it.",
            aliases=("negative preset", "text", "exclude"),
            inputs=[
                io.Combo.Input(
                    "preset", options=list(NEGATIVE_PRESETS), default="general", tooltip="What kind of picture it is."
                ),
                io.String.Input("more", default="", multiline=True, tooltip="More to leave out, separated by commas."),
            ],
            outputs=[io.String.Output(tooltip="The negative prompt, for a text encoder.")],
        )

    @classmethod
    def execute(cls, preset: str, more: str) -> io.NodeOutput:
        return io.NodeOutput(negative(preset, more))


class AtelierRewritePrompt(io.ComfyNode):
    """A prompt rewritten by a chat model; the prompt itself where none is configured."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="AtelierRewritePrompt",
            display_name="Rewrite Prompt",
            group=GROUP,
            description="Has any OpenAI-compatible chat model rewrite a prompt or an edit's instruction. Off until "
            "ATELIER_CHAT_URL names a server: then the prompt goes through unchanged.",
            aliases=("prompt enhancer", "upsampling", "llm", "chat", "openai", "edit instruction"),
            inputs=[
                io.String.Input("prompt", default="", multiline=True, tooltip="The prompt or wish in your own words."),
                io.Combo.Input(
                    "kind", options=list(rewriting.KINDS), default=rewriting.PICTURE, tooltip="What it is for."
                ),
                io.Float.Input(
                    "temperature",
                    default=0.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip="0: the likeliest words.",
                ),
                io.Int.Input(
                    "seed", default=0, min=0, max=0x7FFFFFFF, control_after_generate=True, tooltip="For other words."
                ),
                io.Int.Input("max_tokens", default=1024, min=64, max=32768, tooltip="Length of the answer at most."),
                io.Combo.Input(
                    "on_error",
                    options=[STOP, KEEP],
                    default=STOP,
                    tooltip="What to do where the server fails: stop with the reason, or go on with your own words.",
                ),
                io.Int.Input("timeout", default=120, min=5, max=3600, tooltip="Seconds to wait at most."),
                io.Image.Input("image", optional=True, tooltip="The picture, for a chat model that sees (the first)."),
                io.String.Input(
                    "instructions",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="The system prompt of 'own instructions'.",
                ),
                io.String.Input("model", default="", optional=True, tooltip="Its name there; empty: as configured."),
                io.String.Input(
                    "server", default="", optional=True, tooltip="One of the configured addresses; empty: the first."
                ),
            ],
            outputs=[
                io.String.Output(display_name="prompt", tooltip="The rewritten prompt."),
                io.String.Output(display_name="report", tooltip="What was done, or why nothing."),
            ],
        )

    @classmethod
    async def execute(
        cls,
        prompt: str,
        kind: str,
        on_error: str,
        timeout: int,  # noqa: ASYNC109 - the widget's name; asyncio.timeout does the work
        server: str = "",
        **values: Any,
    ) -> io.NodeOutput:
        access = CHAT.access()
        if not access.urls or not prompt.strip():
            why = (
                "the prompt is empty"
                if access.urls
                else f"not rewritten: no server is configured; {CHAT.remedy('url')}"
            )
            show_progress(why, None)
            return io.NodeOutput(prompt, why)
        try:
            text, used = await _rewritten(access, prompt, kind, timeout, server, **values)
        except RemoteError as error:
            if on_error == STOP:
                raise
            text, used = prompt, f"not rewritten: {error}"
        show_progress(used, None)
        return io.NodeOutput(text, used)


async def _rewritten(
    access: Access,
    prompt: str,
    kind: str,
    seconds: int,
    server: str,
    *,
    temperature: float,
    seed: int,
    max_tokens: int,
    image: Any = None,
    instructions: str = "",
    model: str = "",
) -> tuple[str, str]:
    if not (model or access.model):
        raise NodeInputError(f"no chat model is named; {CHAT.remedy('model')}, or fill in 'model'")
    base, head, hosts = remote_openai.connection(CHAT, access, server)
    body = remote_openai.chat_body(
        model=model or access.model,
        system=rewriting.instructions(kind, instructions),
        prompt=prompt,
        picture=None if image is None else image[0, ..., :3].cpu().float().numpy(),
        temperature=temperature,
        seed=seed,
        limit=max_tokens,
    )
    who = "the chat server"
    text, tokens = await ask(who, hosts, access, seconds, lambda client: remote_openai.chat(client, base, head, body))
    return rewriting.checked(kind, text), f"rewritten by {model or access.model}{f' ({tokens})' if tokens else ''}"


PROMPT_NODES: list[type[io.ComfyNode]] = [AtelierLayeredPrompt, AtelierNegativePrompt, AtelierRewritePrompt]
