"""Loaders: checkpoints, diffusion models, text encoders, autoencoders. Source: ComfyUI ``nodes.py``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from .context import Context
from .diffusion import loading, memory
from .diffusion.encoders import Clip, Vae
from .diffusion.files import NodeOptions, find_model, model_file, model_inputs
from .diffusion.values import Model
from .families.tokenizers import missing
from .problems import NodeProblem
from .registry import Fault, NodeGroup

NODES = NodeGroup()

_DTYPES = {
    "default": None,
    "fp8_e4m3fn": torch.float8_e4m3fn,
    "fp8_e4m3fn_fast": torch.float8_e4m3fn,
    "fp8_e5m2": torch.float8_e5m2,
}
_BUILT_IN_VAE = frozenset({"pixel_space"})


def _with_text(load: Callable[..., Clip | None], **folders: str) -> NodeOptions:
    """`model_inputs`, and a check that the files hold text encoders whose tokenizers are there."""
    options = model_inputs(**folders)

    def validate(*, context: Context, **values: Any) -> Iterator[Fault]:
        faults = list(options["validate"](context=context, **values))
        yield from faults
        if faults or not all(isinstance(values.get(name), str) for name in folders):
            return
        name = next(iter(folders))
        try:
            clip = load(context=context, **values)
        except NodeProblem as problem:
            yield Fault(input_name=name, message=problem.message, remedy=problem.remedy)
            return
        for files in clip.encoder.tokenizers if clip is not None else ():
            lacking = missing(files, context.run)
            if lacking is not None:
                yield Fault(input_name=name, message=lacking.message, remedy=lacking.remedy)

    return {"fingerprint": options["fingerprint"], "validate": validate}


def _text_of_checkpoint(*, context: Context, ckpt_name: str, **_: Any) -> Clip | None:
    return loading.checkpoint(model_file(context, "checkpoints", ckpt_name)).clip


def _text_of_files(kind: str | None = None) -> Callable[..., Clip]:
    def load(*, context: Context, **values: Any) -> Clip:
        names = [value for name, value in sorted(values.items()) if name.startswith("clip_name")]
        return _text_encoders(context, kind or values["type"], *names)

    return load


@NODES.node("CheckpointLoaderSimple", **_with_text(_text_of_checkpoint, ckpt_name="checkpoints"))
def checkpoint(ckpt_name: str, *, context: Context) -> tuple[Model, Clip | None, Vae | None]:
    """Everything in a whole checkpoint."""
    found = loading.checkpoint(model_file(context, "checkpoints", ckpt_name))
    memory.store().prepare(found.model.component)
    return found.model, found.clip, found.vae


@NODES.node("UNETLoader", **model_inputs(unet_name="diffusion_models"))
def diffusion_model(unet_name: str, weight_dtype: str, *, context: Context) -> Model:
    """A diffusion model in a file of its own."""
    model = loading.diffusion_model(model_file(context, "diffusion_models", unet_name), _DTYPES[weight_dtype])
    memory.store().prepare(model.component)
    return model


@NODES.node("CLIPLoader", **_with_text(_text_of_files(), clip_name="text_encoders"))
def text_encoder(
    clip_name: str,
    type: str,  # ComfyUI's name
    device: str = "default",
    *,
    context: Context,
) -> Clip:
    """A text encoder in a file of its own."""
    return _text_encoders(context, type, clip_name)


@NODES.node("DualCLIPLoader", **_with_text(_text_of_files(), clip_name1="text_encoders", clip_name2="text_encoders"))
def two_text_encoders(
    clip_name1: str,
    clip_name2: str,
    type: str,  # ComfyUI's name
    device: str = "default",
    *,
    context: Context,
) -> Clip:
    """Two text encoders that belong together."""
    return _text_encoders(context, type, clip_name1, clip_name2)


@NODES.node(
    "TripleCLIPLoader",
    **_with_text(
        _text_of_files("sd3"), clip_name1="text_encoders", clip_name2="text_encoders", clip_name3="text_encoders"
    ),
)
def three_text_encoders(clip_name1: str, clip_name2: str, clip_name3: str, *, context: Context) -> Clip:
    """SD 3's three text encoders."""
    return _text_encoders(context, "sd3", clip_name1, clip_name2, clip_name3)


@NODES.node(
    "QuadrupleCLIPLoader",
    **_with_text(
        _text_of_files("hidream"),
        clip_name1="text_encoders",
        clip_name2="text_encoders",
        clip_name3="text_encoders",
        clip_name4="text_encoders",
    ),
)
def four_text_encoders(clip_name1: str, clip_name2: str, clip_name3: str, clip_name4: str, *, context: Context) -> Clip:
    """HiDream's four text encoders."""
    return _text_encoders(context, "hidream", clip_name1, clip_name2, clip_name3, clip_name4)


def _text_encoders(context: Context, kind: str, *names: str) -> Clip:
    return loading.text_encoders([model_file(context, "text_encoders", name) for name in names], kind)


def _vae_fingerprint(vae_name: str, *, context: Context, **_: Any) -> Any:
    stamps = []
    for path in _vae_paths(vae_name, context):
        status = path.stat()
        stamps.append([str(path), status.st_size, status.st_mtime_ns])
    return stamps


def _vae_paths(vae_name: str, context: Context) -> list[Any]:
    path = find_model(context.run.model_folders, "vae", vae_name)
    if path is not None:
        return [path]
    parts = [_taesd_part(context, f"{vae_name}_{side}") for side in ("encoder", "decoder")]
    return [part for part in parts if part is not None]


def _taesd_part(context: Context, stem: str) -> Any:
    return find_model(context.run.model_folders, "vae_approx", f"{stem}.safetensors")


def _vae_missing(vae_name: str, *, context: Context, **_: Any) -> Iterator[Fault]:
    if vae_name in _BUILT_IN_VAE or _vae_paths(vae_name, context):
        return
    try:
        model_file(context, "vae", vae_name)
    except NodeProblem as problem:
        yield Fault(input_name="vae_name", message=problem.message, remedy=problem.remedy)


@NODES.node("VAELoader", fingerprint=_vae_fingerprint, validate=_vae_missing)
def autoencoder(vae_name: str, *, context: Context) -> Vae:
    """An autoencoder in a file of its own, or a TAESD whose halves lie in ``models/vae_approx``."""
    if vae_name in _BUILT_IN_VAE:
        raise NodeProblem(f"the embedded engine has no VAE {vae_name!r}", remedy="choose a file")
    paths = _vae_paths(vae_name, context)
    if len(paths) == 2:
        return loading.tiny_autoencoder(paths[0], paths[1], vae_name)
    return loading.autoencoder(model_file(context, "vae", vae_name))
