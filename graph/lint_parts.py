"""Lint's rules about what is put together (A301 to A308) and under which licences (A401, A402)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..catalogue import ChoiceError, Control, Licence, Lora
from ..catalogue.choice import check_model, pick_variant
from ..catalogue.loaders import AUTOMATIC, loader
from .findings import Finding, Severity
from .lint_chain import Chain, Chains, UsedFile
from .lint_pack import empty_latents, is_encoder_input
from .lint_sampling import finding, named
from .prompt import InputRef

EMPTY_LATENTS: dict[str, tuple[int, int]] = {
    "EmptyLatentImage": (4, 8),
    "EmptySD3LatentImage": (16, 8),
    "EmptyHunyuanImageLatent": (64, 32),
    "EmptyFlux2LatentImage": (128, 16),
}
"""Channels and pixels per latent pixel of the core's empty latents (ComfyUI 0.33 ``nodes.py``, ``comfy_extras``)."""


def part_findings(chains: Chains) -> Iterator[Finding]:
    """What does not fit the model of each chain."""
    yield from _models(chains)
    yield from _own_latents(chains)
    for chain in chains:
        if chain.variants:
            yield from _encoders(chains, chain)
            yield from _vaes(chains, chain)
            yield from _latents(chains, chain)
            yield from _add_ons(chains, chain)


def licence_findings(chains: Chains, *, commercial: bool) -> Iterator[Finding]:
    """The licences that forbid commercial use or have conditions, one finding for each file."""
    for used in chains.used_files():
        licences = _licences(used)
        if not licences or any(licence.commercial == "yes" for licence in licences):
            continue  # another file of that name is free: the name alone cannot tell
        licence = licences[0]
        if licence.id == "unknown":
            message = f"the licence of {used.name} is not known, so nothing allows commercial use"
            severity = Severity.ERROR if commercial else None
            yield finding(chains.trace, "A401", used.ref, message, "ask its maker", severity=severity)
        elif any(one.commercial == "no" for one in licences):
            message = f"{used.name} is under {licence.name}, which forbids commercial use"
            remedy = (
                "get a licence from its maker or use another model" if commercial else "do not serve it commercially"
            )
            severity = Severity.ERROR if commercial else None
            yield finding(chains.trace, "A401", used.ref, message, remedy, severity=severity, url=licence.url)
        else:
            message = f"{used.name} is under {licence.name}: {_sentence(licence.conditions)}"
            severity = Severity.WARNING if commercial else None
            yield finding(
                chains.trace,
                "A402",
                used.ref,
                message,
                "check that they fit your use",
                severity=severity,
                url=licence.url,
            )


def _licences(used: UsedFile) -> list[Licence]:
    found: Iterable[Licence] = [file.licence for file in used.files]
    owners = [use.licence for use in used.uses if isinstance(use, Lora | Control)]
    return list({licence.id: licence for licence in [*found, *owners]}.values())


def _sentence(text: str) -> str:
    text = " ".join(text.split()).rstrip(".")
    return text if len(text) <= 160 else text[:159] + "…"


def _models(chains: Chains) -> Iterator[Finding]:
    """Files that a loader of ours refuses, where their headers can be read."""
    for used in chains.used_files():
        spec = loader(chains.trace.prompt.nodes[used.ref.node].class_type)
        if spec is not None and used.ref.input == "model" and used.detection is not None:
            try:
                check_model(spec, used.name, used.detection)
                told = chains.trace.value(InputRef(used.ref.node, "variant"))
                pick_variant(spec, told if isinstance(told, str) else AUTOMATIC, used.name, used.detection)
            except ChoiceError as error:
                message, _, remedy = str(error).partition("; ")
                yield finding(
                    chains.trace, "A308", used.ref, message, remedy or f"choose a file that {spec.title} loads"
                )


def _own_latents(chains: Chains) -> Iterator[Finding]:
    """Empty latents for models that make their own, from a picture or inside a request."""
    for node_id in empty_latents(chains.trace):
        variants = chains.settings_variants(node_id)
        if variants and all(variant.latent is None or variant.latent.node is None for variant in variants):
            source = variants[0].latent.source if variants[0].latent else None
            message = f"{named(variants)} takes its latent from {source or 'its own request'}, not from an empty one"
            remedy = f"wire the latent of {source}, and take this node out" if source else "take this node out"
            yield finding(chains.trace, "A307", node_id, message, remedy)


def _encoders(chains: Chains, chain: Chain) -> Iterator[Finding]:
    trace = chains.trace
    types = {variant.text_encoder for variant in chain.variants}
    families = {variant.family for variant in chain.variants}
    loaders = dict.fromkeys(
        source for encoder in chain.encoders for source in trace.sources(InputRef(encoder, "clip"), "CLIP")
    )
    for node_id in loaders:
        ref = InputRef(node_id, "type")
        told = trace.value(ref)
        if (
            isinstance(told, str)
            and "clip" in trace.prompt.nodes[node_id].class_type.lower()
            and None not in types
            and told not in types
        ):
            wanted = " or ".join(sorted(t for t in types if t))
            message = f"loads the text encoder as {told!r}, but {named(chain.variants)} needs {wanted!r}"
            yield finding(trace, "A301", ref, message, f"set type to {wanted}")
        class_type = trace.prompt.nodes[node_id].class_type
        for name in trace.inputs(node_id):
            used = chains.used_file(InputRef(node_id, name)) if is_encoder_input(class_type, name) else None
            if used is not None and _foreign(used, families):
                message = f"{used.name} is the text encoder of {named(used.variants)}, not of {named(chain.variants)}"
                yield finding(trace, "A302", used.ref, message, _instead(chain, "text_encoder"))


def _vaes(chains: Chains, chain: Chain) -> Iterator[Finding]:
    families = {variant.family for variant in chain.variants}
    for used in chain.vaes:
        if _foreign(used, families):
            message = f"{used.name} is the VAE of {named(used.variants)}, not of {named(chain.variants)}"
            yield finding(chains.trace, "A303", used.ref, message, _instead(chain, "vae"))


def _latents(chains: Chains, chain: Chain) -> Iterator[Finding]:
    if chain.size is None:
        return
    node_id = chain.size[0]
    made = EMPTY_LATENTS.get(chains.trace.prompt.nodes[node_id].class_type)
    wanted = {(v.latent.channels, v.latent.downscale) for v in chain.variants if v.latent is not None}
    node = next((v.latent.node for v in chain.variants if v.latent and v.latent.node), None)
    if made is None or not wanted or made[1] in {downscale for _, downscale in wanted}:
        return  # where only the channels differ, ComfyUI makes the empty latent anew (fix_empty_latent_channels)
    channels, downscale = next(iter(wanted))
    message = (
        f"makes a latent of 1/{made[1]} of the size in {made[0]} channels, but {named(chain.variants)} needs "
        f"1/{downscale} in {channels}: the picture would not have the size that is asked for"
    )
    yield finding(chains.trace, "A304", node_id, message, f"use {node}" if node else "use the model's own empty latent")


def _add_ons(chains: Chains, chain: Chain) -> Iterator[Finding]:
    for rule, kind, add_ons, uses in (
        ("A305", "LoRA", chain.loras, Lora),
        ("A306", "ControlNet", chain.controls, Control),
    ):
        for add_on in add_ons:
            mine = [use for use in add_on.file.uses if isinstance(use, uses)]
            detection = add_on.file.detection
            if detection is not None and detection.families:
                fits = any(detection.fits(v.family, v.architecture) for v in chain.variants)
                whose = " or ".join(detection.families)
            elif mine:
                made_for = {variant for use in mine for variant in use.variants}
                architectures = {v.architecture for v in chains.catalogue_variants if v.id in made_for}
                fits = not architectures or not architectures.isdisjoint(chain.architectures)
                whose = " or ".join(sorted({use.family for use in mine}))
            else:
                continue
            if not fits:
                message = f"{add_on.file.name} is a {kind} for {whose}, not for {named(chain.variants)}"
                yield finding(
                    chains.trace, rule, add_on.file.ref, message, f"use a {kind} that was made for this model"
                )


def _foreign(used: UsedFile, families: set[str]) -> bool:
    """Whether a file is known to be a part of other families only."""
    if used.detection is not None and used.detection.families:
        return families.isdisjoint(used.detection.families)
    return bool(used.variants) and families.isdisjoint(variant.family for variant in used.variants)


def _instead(chain: Chain, role: str) -> str:
    names = dict.fromkeys(file.name for variant in chain.variants for file in variant.files if file.role == role)
    return f"use {', '.join(list(names)[:2])}" if names else "use the one that belongs to the model"
