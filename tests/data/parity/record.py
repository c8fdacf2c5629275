"""Write what real ComfyUIs give for seeded random prompts over the weight-free node classes, for the parity tests.

    python tests/data/parity/record.py PATH=PYTHON [PATH=PYTHON ...] [CLASS ...]

Where classes are named, only their records are made anew. The first ComfyUI named is the reference (0.33.0); of each
further one only the differences are kept. Writes ``prompts.json.xz`` (prompts, texts, shapes) and ``pixels.xz`` (what
the shapes hold, 8 bits a value) beside itself.
"""

from __future__ import annotations

import asyncio
import io
import json
import lzma
import random
import string
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from comfy_atelier.engines import EngineError, InvalidPrompt, ManagedComfyUI, Produced
from comfy_atelier.engines.embedded.registry import CLASSES
from comfy_atelier.graph import InputRef, NodeSchemas, Prompt

HERE = Path(__file__).parent
INPUTS = HERE / "inputs"
WORKING, FAILING, TRIES = 24, 6, 90  # prompts kept for each class that run, that do not; and tried
SEED = 20261122

Node = dict[str, Any]
Link = list[Any]


class Builder:
    """A prompt under construction."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.nodes: dict[str, Node] = {}

    def add(self, class_type: str, **inputs: Any) -> str:
        name = str(len(self.nodes) + 1)
        self.nodes[name] = {"class_type": class_type, "inputs": inputs}
        return name

    def picture(self) -> Link:
        return [self.add("LoadImage", image=self.rng.choice(["wide.png", "tall.png", "small.png", "noise.png"])), 0]

    def image(self) -> Link:
        kind = self.rng.random()
        if kind < 0.55:
            return self.picture()
        if kind < 0.75:
            first, second = self.picture(), self.picture()
            return [self.add("ImageBatch", image1=first, image2=second), 0]
        if kind < 0.9:
            return [self.add("JoinImageWithAlpha", image=self.picture(), alpha=self.stored_mask()), 0]
        size = {"width": self.rng.randint(1, 9), "height": self.rng.randint(1, 9)}
        colour = self.rng.randrange(1 << 24)
        return [self.add("EmptyImage", **size, batch_size=self.rng.randint(1, 3), color=colour), 0]

    def stored_mask(self) -> Link:
        image, channel = self.rng.choice([("alpha.png", "alpha"), ("wide.png", "red"), ("noise.png", "blue")])
        return [self.add("LoadImageMask", image=image, channel=channel), 0]

    def mask(self) -> Link:
        kind = self.rng.random()
        if kind < 0.6:
            return self.stored_mask()
        if kind < 0.8:
            return [self.add("ImageToMask", image=self.picture(), channel="green"), 0]
        size = {"width": self.rng.randint(1, 12), "height": self.rng.randint(1, 12)}
        return [self.add("SolidMask", value=self.rng.choice([0.0, 0.25, 1.0]), **size), 0]

    def value(self) -> Any:
        """Something for an input that takes anything."""
        rng = self.rng
        return rng.choice(
            [
                lambda: [self.add("PrimitiveInt", value=rng.choice([0, 1, -7, 123456789012])), 0],
                lambda: [self.add("PrimitiveFloat", value=rng.choice([0.0, 0.5, -2.25, 1e-9, 1e20])), 0],
                lambda: [self.add("PrimitiveBoolean", value=rng.random() < 0.5), 0],
                lambda: [self.add("PrimitiveString", value=rng.choice(TEXTS)), 0],
                lambda: [self.add("PrimitiveBoundingBox", x=1, y=2, width=3, height=4), 0],
                lambda: [self.add("EmptyImage", width=2, height=2, batch_size=1, color=0xFF8000), 0],
            ]
        )()

    def sigmas(self) -> Link:
        rng = self.rng
        if rng.random() < 0.3:
            text = rng.choice(["14.6, 8, 4.5, 2, 1, 0.3, 0", "1, 0.75, 0.5, 0.25, 0.0", "0", ""])
            return [self.add("ManualSigmas", sigmas=text), 0]
        low, high, steps = rng.choice([0.03, 0.5]), rng.choice([14.6, 80.0]), rng.randint(1, 6)
        return [self.add("KarrasScheduler", steps=steps, sigma_max=high, sigma_min=low, rho=7.0), 0]

    def number(self) -> Any:
        rng = self.rng
        if rng.random() < 0.4:
            return [self.add("PrimitiveFloat", value=rng.choice([0.5, -2.25, 3.0, 1e20])), 0]
        return [self.add("PrimitiveInt", value=rng.choice([0, 1, 2, -7, 100])), 0]


TEXTS = [
    "",
    " ",
    "a red fox, oil on canvas",
    "  Spaces both sides \n",
    "ÄÖÜ ß é 漢字 🦊",
    "line one\nline two\nLine three",
    "one,two,,three",
    "CamelCase and UPPER",
    "x" * 40,
    "tab\tand\\backslash",
    "2026-11-22 and 1999-01-02",
    "price: 12.50 EUR",
    "\u0130stanbul \ufb01n",
]
PATTERNS = [
    "o",
    r"\w+",
    r"(\d+)-(\d+)",
    "^line",
    "(one|two)",
    "[",
    "(",
    "",
    r"(a)(b)?",
    ".",
    "x{3}",
    r"(?P<year>\d{4})",
    r"\s+$",
    "two.*Line",
]
JSON_TEXTS = ['{"a": 1, "b": null, "c": [1, 2], "d": {"e": "f"}, "g": true, "h": 1.5}', "[1, 2]", "", "no json", "7"]
EXPRESSIONS = [
    "a + b",
    "a * 2 - b / 4",
    "max(a, b, 3)",
    "min(values)",
    "sum(values) // 2",
    "a if a > b else b",
    "a > b and b > 0",
    "round(a / 3, 2)",
    "sqrt(abs(a))",
    "2 ** 10 + a",
    "a % 7",
    "not a",
    "(a + b) * (a - b)",
    "ceil(a) + floor(b)",
    "unknown + 1",
    "1 / 0",
    "",
    "a +",
    "values[0] + len(values)",
    "int(a) & 3",
    "pow(a, 2)",
    "sin(0) + cos(0)",
    "-a",
    "a == b",
]


def sizes(rng: random.Random) -> int:
    return rng.choice([1, 2, 5, 8, 13, 16, 24, 31, 33])


def positions(rng: random.Random) -> int:
    return rng.choice([0, 1, 3, 8, 15, 23, 24, 100, 16384])


def borders(rng: random.Random) -> int:
    return rng.choice([0, 0, 1, 3, 8])


# What a parameter is drawn from, where the schema's bounds alone would give huge pictures or nothing of interest.
DRAWN: dict[tuple[str, str], Callable[[random.Random], Any]] = {
    ("ImageScale", "width"): lambda r: r.choice([0, sizes(r)]),
    ("ImageScale", "height"): lambda r: r.choice([0, sizes(r)]),
    ("ImageScaleBy", "scale_by"): lambda r: r.choice([0.01, 0.1, 0.37, 0.5, 0.99, 1.0, 1.5, 2.0, 2.13]),
    ("ImageScaleToMaxDimension", "largest_size"): lambda r: r.choice([1, sizes(r)]),
    ("ImageScaleToTotalPixels", "megapixels"): lambda r: 0.01,
    ("ImageScaleToTotalPixels", "resolution_steps"): lambda r: r.choice([1, 1, 1, 1, 8, 16]),
    ("ResizeAndPadImage", "target_width"): sizes,
    ("ResizeAndPadImage", "target_height"): sizes,
    ("EmptyImage", "width"): sizes,
    ("EmptyImage", "height"): sizes,
    ("EmptyImage", "batch_size"): lambda r: r.choice([1, 1, 2, 5]),
    ("SolidMask", "width"): sizes,
    ("SolidMask", "height"): sizes,
    ("RepeatImageBatch", "amount"): lambda r: r.randint(1, 4),
    ("ImageFromBatch", "batch_index"): lambda r: r.choice([0, 0, 1, 1, 2, 5, 16384, -1, -2, -16384]),
    ("ImageFromBatch", "length"): lambda r: r.choice([1, 2, 4096]),
    ("ImageStitch", "spacing_width"): lambda r: r.choice([0, 0, 2, 3, 6]),
    ("ImageBlur", "blur_radius"): lambda r: r.choice([1, 1, 2, 3, 5, 12]),
    ("ImageSharpen", "sharpen_radius"): lambda r: r.choice([1, 1, 2, 3, 5, 12]),
    ("GrowMask", "expand"): lambda r: r.choice([0, 1, -1, 3, -2, 40, -40]),
    ("StringSubstring", "start"): lambda r: r.choice([0, 1, -3, 5, 100]),
    ("StringSubstring", "end"): lambda r: r.choice([0, 1, -1, 5, 100]),
    ("RegexExtract", "group_index"): lambda r: r.choice([0, 1, 1, 2, 3]),
    ("RegexReplace", "replace"): lambda r: r.choice(["", "-", "+", r"\1", r"<\g<0>>"]),
    ("RegexReplace", "count"): lambda r: r.choice([0, 1, 2]),
    ("StringReplace", "find"): lambda r: r.choice(["", "o", "line", "漢", "\n"]),
    ("StringContains", "substring"): lambda r: r.choice(["", "FOX", "fox", "ß", "zzz"]),
    ("JsonExtractString", "json_string"): lambda r: r.choice(JSON_TEXTS),
    ("JsonExtractString", "key"): lambda r: r.choice("abcdghx"),
    ("ComfyMathExpression", "expression"): lambda r: r.choice(EXPRESSIONS),
    ("PrimitiveInt", "value"): lambda r: r.choice([0, 1, -1, 2**53 + 1, -(2**62), 12.7, "17", True]),
    ("PrimitiveFloat", "value"): lambda r: r.choice([0, 1, -1.5, 1e300, 1e-300, "2.5", True, 0.1]),
    ("PrimitiveBoolean", "value"): lambda r: r.choice([True, False, 0, 1, "", "false"]),
    ("PrimitiveString", "value"): lambda r: r.choice([*TEXTS, 12, 0.5, True]),
    ("SaveImage", "filename_prefix"): lambda r: r.choice(
        ["parity", "sub/folder/x", "%width%x%height%", "%year%-%month%", "a%batch_num%b"]
    ),
    ("SaveText", "filename_prefix"): lambda r: r.choice(["text", "sub/text", "%year%", "../x", "a/b"]),
    ("Canny", "low_threshold"): lambda r: r.choice([0.01, 0.05, 0.1, 0.2, 0.4, 0.99]),
    ("Canny", "high_threshold"): lambda r: r.choice([0.05, 0.2, 0.4, 0.8, 0.99]),
    ("ImageCropV2", "crop_region"): lambda r: {"x": positions(r), "y": r.randint(0, 9), "width": sizes(r), "height": 7},
    ("SplitImageToTileList", "tile_width"): lambda r: r.choice([64, 64, 70, 100]),
    ("SplitImageToTileList", "tile_height"): lambda r: r.choice([64, 64, 70, 100]),
    ("SplitImageToTileList", "overlap"): lambda r: r.choice([0, 8, 16, 60]),
    ("ImageMergeTileList", "final_width"): lambda r: r.choice([64, 70, 90]),
    ("ImageMergeTileList", "final_height"): lambda r: r.choice([64, 70, 90]),
    ("ImageMergeTileList", "overlap"): lambda r: r.choice([0, 8, 16]),
}
for _name in ("Karras", "Exponential", "Polyexponential", "Laplace"):
    DRAWN[f"{_name}Scheduler", "steps"] = lambda r: r.choice([1, 2, 3, 5, 8])
    DRAWN[f"{_name}Scheduler", "sigma_max"] = lambda r: r.choice([14.614642, 80.0, 1.0, 0.5])
    DRAWN[f"{_name}Scheduler", "sigma_min"] = lambda r: r.choice([0.0291675, 0.002, 0.5, 1.0])
    DRAWN[f"{_name}Scheduler", "rho"] = lambda r: r.choice([7.0, 1.0, 3.5, 0.5])
DRAWN.update(
    {
        ("VPScheduler", "steps"): lambda r: r.choice([1, 2, 5, 8]),
        ("VPScheduler", "beta_d"): lambda r: r.choice([19.9, 5.0, 1.0]),
        ("VPScheduler", "beta_min"): lambda r: r.choice([0.1, 0.0, 1.0]),
        ("ManualSigmas", "sigmas"): lambda r: r.choice(
            ["14.6 8 0", "1, .5, 0", "-1e3 +2", "", "no numbers", "1..2 3.", "7"]
        ),
        ("SplitSigmas", "step"): lambda r: r.choice([0, 1, 2, 3, 7, 100]),
        ("SplitSigmasDenoise", "denoise"): lambda r: r.choice([0.0, 0.3, 0.5, 0.75, 1.0]),
        ("SetFirstSigma", "sigma"): lambda r: r.choice([0.0, 1.5, 136.0]),
        ("ExtendIntermediateSigmas", "steps"): lambda r: r.choice([1, 2, 3, 5]),
        ("ExtendIntermediateSigmas", "start_at_sigma"): lambda r: r.choice([-1.0, 5.0, 14.6]),
        ("ExtendIntermediateSigmas", "end_at_sigma"): lambda r: r.choice([0.0, 1.0, 12.0]),
    }
)
for _name in ("ImageCrop", "CropMask"):
    DRAWN.update({(_name, "width"): sizes, (_name, "height"): sizes, (_name, "x"): positions, (_name, "y"): positions})
for _name in ("ImageCompositeMasked", "MaskComposite"):
    DRAWN.update({(_name, "x"): positions, (_name, "y"): positions})
for _name in ("left", "top", "right", "bottom"):
    DRAWN["ImagePadForOutpaint", _name] = borders
    DRAWN["FeatherMask", _name] = lambda r: r.choice([0, 0, 1, 4, 9, 100])
DRAWN["ImagePadForOutpaint", "feathering"] = lambda r: r.choice([0, 1, 2, 4, 7, 8, 40])

RESIZES: list[Callable[[random.Random, Builder], dict[str, Any]]] = [
    lambda r, b: {
        "resize_type": "scale dimensions",
        "width": r.choice([0, sizes(r)]),
        "height": sizes(r),
        "crop": "center",
    },
    lambda r, b: {"resize_type": "scale dimensions", "width": sizes(r), "height": sizes(r), "crop": "disabled"},
    lambda r, b: {"resize_type": "scale by multiplier", "multiplier": r.choice([0.05, 0.5, 1.3, 2.0])},
    lambda r, b: {"resize_type": "scale longer dimension", "longer_size": r.choice([1, 12, 30])},
    lambda r, b: {"resize_type": "scale shorter dimension", "shorter_size": r.choice([1, 12, 30])},
    lambda r, b: {"resize_type": "scale width", "width": sizes(r)},
    lambda r, b: {"resize_type": "scale height", "height": sizes(r)},
    lambda r, b: {"resize_type": "scale total pixels", "megapixels": 0.01},
    lambda r, b: {"resize_type": "match size", "match": b.picture(), "crop": r.choice(["disabled", "center"])},
    lambda r, b: {"resize_type": "match size", "match": b.mask(), "crop": "center"},
    lambda r, b: {"resize_type": "scale to multiple", "multiple": r.choice([1, 2, 5, 8, 64])},
]


def make_case(class_type: str, schemas: NodeSchemas, rng: random.Random, index: int) -> dict[str, Node]:
    """A prompt around one node of `class_type` that shows all that it gives."""
    build = Builder(rng)
    schema = schemas[class_type]
    inputs: dict[str, Any] = {}
    for spec in schema.inputs:
        if not spec.required and rng.random() < 0.4:
            continue
        drawn = DRAWN.get((class_type, spec.name))
        if class_type in ("LoadImage", "LoadImageMask") and spec.name == "image":
            files = sorted(path.name for path in INPUTS.iterdir())
            inputs[spec.name] = files[index % len(files)]
        elif class_type == "ImageCropV2" and spec.name == "crop_region":
            box = DRAWN[class_type, "crop_region"](rng)
            inputs[spec.name] = [build.add("PrimitiveBoundingBox", **box), 0]
        elif class_type == "ResizeImageMaskNode" and spec.name == "resize_type":
            for name, value in RESIZES[index % len(RESIZES)](rng, build).items():
                inputs[name if name == "resize_type" else f"resize_type.{name}"] = value
        elif class_type == "CustomCombo":
            inputs.update(choice=rng.choice(["one", "two"]), option1="one", option2="two", index=rng.randrange(2))
        elif class_type == "ComfySwitchNode" and spec.name != "switch":
            other = (spec.name == "on_true") != inputs["switch"] and rng.random() < 0.7
            inputs[spec.name] = [build.add("RegexReplace", **BROKEN), 0] if other else build.value()
        elif spec.type == "IMAGECOMPARE":
            inputs[spec.name] = {"__value__": ["", ""]}
        elif spec.type == "COMFY_AUTOGROW_V3":
            inputs.update(grown(class_type, spec.name, build, rng))
        elif drawn is not None:
            inputs[spec.name] = drawn(rng)
        else:
            value = plain(spec, build, rng, class_type)
            if value is not None:
                inputs[spec.name] = value
    node = build.add(class_type, **inputs)
    if class_type == "SplitImageToTileList":
        build.nodes[node]["inputs"]["image"] = [build.add("ImageScale", **LARGER, image=build.picture()), 0]
    if class_type == "ImageMergeTileList":
        larger = [build.add("ImageScale", **LARGER, image=build.picture()), 0]
        tiles = build.add("SplitImageToTileList", image=larger, tile_width=64, tile_height=64, overlap=16)
        build.nodes[node]["inputs"]["image_list"] = [tiles, 0]
    if not schema.output_node:
        for slot, output in enumerate(schema.outputs):
            show(build, [node, slot], output.type, inputs, schemas)
    return build.nodes


BROKEN = {"string": "x", "regex_pattern": "(", "replace": ""}  # fails if it is computed
LARGER = {"upscale_method": "nearest-exact", "width": 90, "height": 70, "crop": "disabled"}


def grown(class_type: str, name: str, build: Builder, rng: random.Random) -> dict[str, Any]:
    if class_type in ("StringFormat", "ComfyMathExpression"):
        make, least = (build.value, 0) if class_type == "StringFormat" else (build.number, 2)
        return {f"{name}.{letter}": make() for letter in string.ascii_lowercase[: rng.randint(least, 3)]}
    prefix = {"images": "image", "masks": "mask", "values": "value"}[name]
    make = {"images": build.image, "masks": build.mask, "values": build.value}[name]
    return {f"{name}.{prefix}{number}": make() for number in range(rng.randint(1, 4))}


def plain(spec: Any, build: Builder, rng: random.Random, class_type: str) -> Any:
    match spec.type:
        case "IMAGE":
            return build.image()
        case "MASK":
            return build.mask()
        case "SIGMAS":
            return build.sigmas()
        case "COMFY_MATCHTYPE_V3":
            return build.image() if rng.random() < 0.6 else build.mask()
        case "STRING":
            text = rng.choice(PATTERNS if spec.name == "regex_pattern" else TEXTS)
            if class_type == "StringFormat":
                return rng.choice(["{a}", "{a}-{b!r}", "{a:>10}", "no fields", "{{}}", "{b}", "{a.__class__}", "{0}"])
            if class_type == "SaveText" and spec.name == "text":
                return [build.add("PrimitiveString", value=rng.choice([*TEXTS, *JSON_TEXTS])), 0]
            return [build.add("PrimitiveString", value=text), 0] if rng.random() < 0.3 else text
        case "BOOLEAN":
            return rng.random() < 0.5
        case "COMBO":
            return rng.choice([*(spec.choices or ()), *(spec.choices or ())] * 6 + ["no such choice"])
        case "INT" | "FLOAT":
            low, high = (
                spec.minimum if spec.minimum is not None else -10,
                spec.maximum if spec.maximum is not None else 10,
            )
            edge = rng.random()
            if edge < 0.15:
                return low
            if edge < 0.3:
                return high
            if edge < 0.34:
                return high + 1
            return rng.randint(int(low), int(high)) if spec.type == "INT" else round(rng.uniform(low, high), 2)
        case "*" | "INT,FLOAT,STRING,BOOLEAN":
            return build.value()
    return None


def show(build: Builder, link: Link, kind: str, inputs: dict[str, Any], schemas: NodeSchemas) -> None:
    if kind == "COMFY_MATCHTYPE_V3" and "input" in inputs:
        source, slot = inputs["input"]
        kind = schemas[build.nodes[source]["class_type"]].outputs[slot].type
    if kind == "MASK":
        link, kind = [build.add("MaskToImage", mask=link), 0], "IMAGE"
    if kind == "IMAGE":
        build.add("SaveImage", images=link, filename_prefix="parity")
    else:
        build.add("PreviewAny", source=link)


def draw_inputs() -> None:
    """Small pictures of every kind that LoadImage reads."""
    INPUTS.mkdir(exist_ok=True)
    rng = np.random.default_rng(SEED)

    def picture(width: int, height: int) -> np.ndarray:
        y, x = np.mgrid[0:height, 0:width]
        disc = ((x - width * 0.4) ** 2 + (y - height * 0.5) ** 2 < (height * 0.3) ** 2)[..., None]
        ground = np.stack([x * 255 // max(1, width - 1), y * 255 // max(1, height - 1), (x + y) * 9 % 256], -1)
        return np.where(disc, [220, 40, 90], ground).astype(np.uint8)

    wide, tall, small = picture(24, 16), picture(11, 19), picture(7, 5)
    alpha = ((np.mgrid[0:16, 0:24].sum(0)) * 6 % 256).astype(np.uint8)
    rgba = np.dstack([wide, alpha])
    image = Image.fromarray
    image(wide).save(INPUTS / "wide.png")
    image(tall).save(INPUTS / "tall.png")
    image(small).save(INPUTS / "small.png")
    image(rng.integers(0, 256, (9, 13, 3)).astype(np.uint8)).save(INPUTS / "noise.png")
    image(rgba).save(INPUTS / "alpha.png")
    image(wide[..., 0]).save(INPUTS / "grey.png")
    image(rgba).convert("LA").save(INPUTS / "grey-alpha.png")
    image(wide[..., 0].astype(np.uint16) * 257).save(INPUTS / "grey-16-bit.png")
    image(wide).convert("1").save(INPUTS / "1-bit.png")
    palette = image(wide).convert("P", palette=Image.Palette.ADAPTIVE, colors=16)
    palette.save(INPUTS / "palette.png")
    palette.save(INPUTS / "palette-transparent.png", transparency=3)
    image(wide).save(INPUTS / "photo-420.jpg", quality=90, subsampling=2)
    image(picture(32, 20)).save(INPUTS / "photo-32.jpg", quality=95, subsampling=0)
    image(wide[..., 0]).save(INPUTS / "grey.jpg", quality=90)
    image(wide).convert("CMYK").save(INPUTS / "cmyk.jpg", quality=90)
    for orientation in (3, 4, 6, 7):
        exif = Image.Exif()
        exif[0x112] = orientation
        image(wide).save(INPUTS / f"turned-{orientation}.jpg", exif=exif, quality=95, subsampling=0)
    image(wide).save(INPUTS / "lossy.webp", quality=90)
    image(rgba).save(INPUTS / "lossless-alpha.webp", lossless=True)
    frames = [image(np.roll(wide, shift, 1)) for shift in (0, 5, 11)]
    frames[0].save(INPUTS / "animated.webp", save_all=True, append_images=frames[1:], lossless=True)
    frames[0].save(INPUTS / "animated.gif", save_all=True, append_images=frames[1:])
    frames[0].save(INPUTS / "animated.png", save_all=True, append_images=frames[1:])
    image(wide).save(INPUTS / "plain.bmp")
    image(wide).save(INPUTS / "plain.tif")
    frames[0].save(INPUTS / "pages.tif", save_all=True, append_images=frames[1:])
    image(wide).save(INPUTS / "plain.avif", quality=90)
    image(wide).save(INPUTS / "other-name.jpg", format="PNG")
    whole = (INPUTS / "noise.png").read_bytes()
    (INPUTS / "cut-off.png").write_bytes(whole[: len(whole) * 2 // 3])
    (INPUTS / "no-picture.png").write_bytes(b"GIF is what this is not")


async def observe(engine: Any, nodes: dict[str, Node]) -> dict[str, Any]:
    """What an engine gives for a prompt: node -> pictures and texts, or what kind of error."""
    files = {
        InputRef(name, "image"): INPUTS / node["inputs"]["image"]
        for name, node in nodes.items()
        if node["class_type"].startswith("LoadImage") and isinstance(node["inputs"].get("image"), str)
    }
    found: list[Any] = []
    try:
        async for event in engine.run(Prompt.from_json(nodes), files=files):
            if isinstance(event, Produced):
                data = event.data if isinstance(event.data, bytes) else event.data.read_bytes()
                if event.media_type == "image/png":
                    pixels: Any = np.asarray(Image.open(io.BytesIO(data)))
                else:
                    pixels = data.decode()
                found.append((int(event.node), event.output, event.index, pixels))
    except InvalidPrompt:
        return {"error": "invalid"}
    except EngineError as error:
        return {"error": "failed", "message": error.message[:200]}
    return {"produced": sorted(found, key=lambda item: item[:3])}


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    if "error" in first or "error" in second:
        return first.get("error") == second.get("error")
    if len(first["produced"]) != len(second["produced"]):
        return False
    for a, b in zip(first["produced"], second["produced"], strict=True):
        if a[:3] != b[:3] or type(a[3]) is not type(b[3]):
            return False
        if isinstance(a[3], str):
            if a[3] != b[3]:
                return False
        elif a[3].shape != b[3].shape or np.abs(a[3].astype(int) - b[3].astype(int)).max(initial=0) > 1:
            return False
    return True


def version(path: Path) -> str:
    text = (path / "comfyui_version.py").read_text()
    return text.partition("__version__")[2].split('"')[1]


async def choose(engine: Any, class_type: str, schemas: NodeSchemas) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Prompts for a class with what the reference gives: enough that run, some that do not."""
    kept: list[tuple[dict[str, Any], dict[str, Any]]] = []
    working = failing = 0
    files = len(list(INPUTS.iterdir())) if class_type.startswith("LoadImage") else 0
    for index in range(TRIES):
        if working >= WORKING and index >= files:
            break
        rng = random.Random(f"{SEED}/{class_type}/{index}")
        case = {"class": class_type, "prompt": make_case(class_type, schemas, rng, index)}
        answer = await observe(engine, case["prompt"])
        failed = "error" in answer
        if failed and failing >= FAILING and not files:
            continue
        failing, working = failing + failed, working + (not failed)
        kept.append((case, answer))
    print(class_type, working, "run,", failing, "do not", flush=True)
    return kept


async def record(installs: list[tuple[Path, Path]], classes: list[str]) -> None:
    schemas = NodeSchemas.builtin("0.33.0")
    cases: list[dict[str, Any]] = []
    reference: list[dict[str, Any]] = []
    engine = ManagedComfyUI(installs[0][0], python=installs[0][1], device="cpu")
    await engine.start()
    try:
        for class_type in classes or sorted(CLASSES):
            for case, answer in await choose(engine, class_type, schemas):
                cases.append(case)
                reference.append(answer)
    finally:
        await engine.close()
    for path, python in installs[1:]:
        engine = ManagedComfyUI(path, python=python, device="cpu")
        await engine.start()
        try:
            for case, answer in zip(cases, reference, strict=True):
                other = await observe(engine, case["prompt"])
                if not same(answer, other):
                    case.setdefault("differs", []).append(version(path))
                    print(version(path), case["class"], other.get("message", other.get("error", "differs")), flush=True)
        finally:
            await engine.close()
    kept, pixels = keep(classes)
    for case, answer in zip(cases, reference, strict=True):
        if "error" in answer:
            case.update(answer)
            continue
        case["produced"] = []
        for node, kind, index, value in answer["produced"]:
            entry: dict[str, Any] = {"node": str(node), "kind": kind, "index": index}
            if isinstance(value, str):
                entry["text"] = value
            else:
                entry.update(shape=list(value.shape), offset=len(pixels))
                pixels += value.tobytes()
            case["produced"].append(entry)
    cases = sorted(kept + cases, key=lambda case: case["class"])
    text = json.dumps(cases, ensure_ascii=False, separators=(",", ":"))
    (HERE / "prompts.json.xz").write_bytes(lzma.compress(text.encode(), preset=9))
    (HERE / "pixels.xz").write_bytes(lzma.compress(bytes(pixels), preset=9))
    print(len(cases), "prompts,", len(text), "and", len(pixels), "bytes")


def keep(classes: list[str]) -> tuple[list[dict[str, Any]], bytearray]:
    """The records of all other classes, and their pixels."""
    pixels = bytearray()
    if not classes:
        return [], pixels
    cases = json.loads(lzma.decompress((HERE / "prompts.json.xz").read_bytes()))
    before = lzma.decompress((HERE / "pixels.xz").read_bytes())
    cases = [case for case in cases if case["class"] not in classes]
    for entry in (entry for case in cases for entry in case.get("produced", ()) if "shape" in entry):
        size = int(np.prod(entry["shape"]))
        data = before[entry["offset"] : entry["offset"] + size]
        entry["offset"] = len(pixels)
        pixels += data
    return cases, pixels


if __name__ == "__main__":
    draw_inputs()
    pairs = [argument.split("=", 1) for argument in sys.argv[1:] if "=" in argument]
    named = [argument for argument in sys.argv[1:] if "=" not in argument]
    asyncio.run(record([(Path(path), Path(python)) for path, python in pairs], named))
