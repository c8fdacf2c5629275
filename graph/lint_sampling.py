"""Lint's rules about sizes and sampling: A101 to A204."""

from __future__ import annotations

from collections.abc import Iterator

from ..catalogue import Lora, Variant
from .findings import RULES, Finding, Severity
from .lint_chain import AddOn, Chain, Chains
from .prompt import InputRef
from .tracing import Trace, custom_title

SLACK = 0.3
"""How far outside the catalogue's pixel range a size may lie before A102 speaks: the range is a rule of thumb."""

CFG_SLACK = 0.5
"""How far cfg may lie from what a distilled model or LoRA needs: some templates use 1.1 or 1.2 on purpose."""


def sampling_findings(chains: Chains) -> Iterator[Finding]:
    """What is wrong with the sizes and settings of each chain."""
    every = list(chains)
    yield from _negatives(chains.trace, every)
    for chain in every:
        yield from _sizes(chains.trace, chain)
        yield from _cfg(chains.trace, chain)
        yield from _steps(chains.trace, chain)


def finding(
    trace: Trace,
    rule: str,
    ref: InputRef | str,
    message: str,
    remedy: str,
    *,
    severity: Severity | None = None,
    url: str | None = None,
) -> Finding:
    """A finding at an input or a node."""
    node_id = ref.node if isinstance(ref, InputRef) else ref
    return Finding(
        rule=rule,
        severity=severity or RULES[rule].severity,
        message=message,
        remedy=remedy,
        node_id=node_id,
        class_type=trace.prompt.nodes[node_id].class_type,
        input_name=ref.input if isinstance(ref, InputRef) else None,
        title=custom_title(trace.prompt, trace.schemas, node_id),
        url=url,
    )


def named(variants: tuple[Variant, ...]) -> str:
    """The variants in words: "FLUX.1 dev", or "FLUX.1 dev or FLUX.1 Krea dev"."""
    names = list(dict.fromkeys(variant.name for variant in variants))
    return " or ".join(names[:2]) if len(names) <= 2 else f"{names[0]} and its kin"


def _sizes(trace: Trace, chain: Chain) -> Iterator[Finding]:
    known = [variant for variant in chain.variants if variant.resolution is not None]
    if chain.size is None or not known:
        return
    node_id, width, height = chain.size
    shown = f"{width}x{height}"
    if all(v.resolution and v.resolution.exact and (width, height) not in v.resolution.sizes for v in known):
        sizes = ", ".join(f"{w}x{h}" for v in known[:1] if v.resolution for w, h in v.resolution.sizes)
        yield finding(
            trace,
            "A103",
            node_id,
            f"{shown} is none of the sizes that {named(chain.variants)} works at",
            f"use {sizes}",
        )
        return
    multiple = min(v.resolution.multiple for v in known if v.resolution)
    for name, side in (("width", width), ("height", height)):
        if side % multiple:
            ref = trace.literal(InputRef(node_id, name)) or InputRef(node_id, name)
            message = f"{side} is not a multiple of {multiple}, which {named(chain.variants)} needs"
            yield finding(
                trace,
                "A101",
                ref,
                message,
                f"use {side - side % multiple or multiple} or {side - side % multiple + multiple}",
            )
    low = min(v.resolution.min_pixels for v in known if v.resolution) * (1 - SLACK)
    high = max(v.resolution.max_pixels for v in known if v.resolution) * (1 + SLACK)
    if not low <= width * height <= high:
        resolution = known[0].resolution
        assert resolution is not None
        better = "{}x{}".format(*resolution.nearest(width / height)) if height else ""
        less = "fewer" if width * height < low else "more"
        trained = f"{resolution.width}x{resolution.height}"
        message = f"{shown} has far {less} pixels than {named(chain.variants)} was trained at ({trained})"
        yield finding(trace, "A102", node_id, message, f"use {better}, or scale afterwards")


def _negatives(trace: Trace, chains: list[Chain]) -> Iterator[Finding]:
    """Negative texts that no sampler looks at: every one that has them works at cfg 1."""
    heeded = {ref for chain in chains if chain.cfg is None or chain.cfg.value != 1 for ref in chain.negative}
    seen: set[InputRef] = set()
    for chain in chains:
        for ref in chain.negative:
            if chain.cfg is not None and ref not in heeded and ref not in seen and str(trace.value(ref) or "").strip():
                seen.add(ref)
                message = f"this negative prompt does nothing: cfg of node {chain.cfg.ref.node} is 1"
                yield finding(trace, "A201", ref, message, "raise cfg, or empty it")


def _cfg(trace: Trace, chain: Chain) -> Iterator[Finding]:
    cfg = chain.cfg.value if chain.cfg else None
    if chain.cfg is None or isinstance(cfg, bool) or not isinstance(cfg, int | float):
        return
    if chain.variants and all(v.guidance_distilled for v in chain.variants) and cfg > 1 + CFG_SLACK:
        message = (
            f"cfg is {cfg:g}, but {named(chain.variants)} is guidance-distilled: it doubles the time and spoils colours"
        )
        yield finding(trace, "A202", chain.cfg.ref, message, "set cfg to 1; where there is a guidance input, use that")
    for add_on, lora in _active_loras(chain):
        wanted = lora.sampling.get("cfg")
        if isinstance(wanted, int | float) and cfg > wanted + CFG_SLACK:
            message = f"cfg is {cfg:g}, but the LoRA {add_on.file.name} ({lora.name}) is made for cfg {wanted:g}"
            yield finding(trace, "A204", chain.cfg.ref, message, f"set cfg to {wanted:g}, or take the LoRA out")


def _steps(trace: Trace, chain: Chain) -> Iterator[Finding]:
    steps = chain.steps.value if chain.steps else None
    ranges = [v.sampling.steps_range for v in chain.variants if v.sampling is not None]
    if chain.steps is None or isinstance(steps, bool) or not isinstance(steps, int) or not ranges:
        return
    denoise = trace.value(InputRef(chain.sampler, "denoise"))
    if isinstance(denoise, int | float) and denoise < 1:
        return  # a second pass: fewer of the steps are walked
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    whose = named(chain.variants)
    if any(not add_on.file.uses for add_on in chain.loras):
        low = 1  # a LoRA that nobody knows: it may well be one that saves steps
    for _, lora in _active_loras(chain):
        wanted = lora.sampling.get("steps")
        if isinstance(wanted, int):
            low, high, whose = max(1, wanted // 2), wanted * 3, lora.name
    if not low <= steps <= high:
        message = f"{steps} steps, where {whose} takes {low} to {high}"
        yield finding(trace, "A203", chain.steps.ref, message, "use a number in that range")


def _active_loras(chain: Chain) -> Iterator[tuple[AddOn, Lora]]:
    for add_on in chain.loras:
        for use in add_on.file.uses:
            if isinstance(use, Lora) and add_on.strength not in {0, None}:
                yield add_on, use
