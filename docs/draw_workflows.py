"""Draws a picture of each curated workflow and writes their index: ``python docs/draw_workflows.py``.

``--check`` writes nothing and ends with 1 where docs/workflows.md is not what the workflows say.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image, ImageColor, ImageDraw, ImageFont

from comfy_atelier.catalogue import Family, ModelFile, Variant, load
from comfy_atelier.graph import Interface, NodeSchemas, find_interface, read_document

DOCS = Path(__file__).parent
WORKFLOWS = DOCS.parent / "workflows"
PAGE = DOCS / "workflows.md"
PICTURES = DOCS / "images" / "workflows"
COMMAND = "python docs/draw_workflows.py"

SCALE = 0.45  # pixels of the picture for one of the editor's
MARGIN = 20.0  # of the editor's pixels, around everything
TITLE = 30.0  # height of a node's title bar, above its position
SLOT = 20.0  # height of a slot
WIDGET = 26.0
COLOURS = 96  # of the palette: enough for flat shapes and smooth letters
BACKGROUND, NODE, TEXT, FAINT = "#202020", "#353535", "#dddddd", "#999999"
WIRES = {
    "MODEL": "#B39DDB",
    "CLIP": "#FFD500",
    "VAE": "#FF6E6E",
    "CONDITIONING": "#FFA931",
    "LATENT": "#FF9CF9",
    "IMAGE": "#64B5F6",
    "MASK": "#81C784",
    "CONTROL_NET": "#6EE7B7",
    "CLIP_VISION": "#A8DADC",
    "CLIP_VISION_OUTPUT": "#AD7452",
    "STYLE_MODEL": "#C2FFAE",
    "ATELIER_SETTINGS": "#8FA8B8",
}
Node = dict[str, Any]


def extent(document: Node) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of all nodes and groups, in the editor's pixels."""
    boxes = [(x, y, x + width, y + height) for x, y, width, height in (g["bounding"] for g in document["groups"])]
    for node in document["nodes"]:
        (x, y), (width, height) = node["pos"], node["size"]
        boxes.append((x, y - TITLE, x + width, y + height))
    left, top, right, bottom = zip(*boxes, strict=True)
    return min(left) - MARGIN, min(top) - MARGIN, max(right) + MARGIN, max(bottom) + MARGIN


class Sheet:
    """A picture in the editor's coordinates."""

    def __init__(self, document: Node) -> None:
        left, top, right, bottom = extent(document)
        self.origin = (left, top)
        size = (round((right - left) * SCALE), round((bottom - top) * SCALE))
        self.image = Image.new("RGB", size, BACKGROUND)
        self.pen = ImageDraw.Draw(self.image)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """A point of the editor's in the picture."""
        return (x - self.origin[0]) * SCALE, (y - self.origin[1]) * SCALE

    def box(
        self, x: float, y: float, width: float, height: float, fill: str | None, outline: str | None = None
    ) -> None:
        """A rectangle with rounded corners."""
        self.pen.rounded_rectangle([self.at(x, y), self.at(x + width, y + height)], 4, fill, outline)

    def write(
        self, x: float, y: float, text: str, size: float, width: float, fill: str = TEXT, right: bool = False
    ) -> None:
        """One line, cut to ``width``; its left (or right) end at x."""
        font = ImageFont.load_default(max(7, size * SCALE))
        room = width * SCALE
        if self.pen.textlength(text, font) > room:
            while text and self.pen.textlength(text + "…", font) > room:
                text = text[:-1]
            text += "…"
        self.pen.text(self.at(x, y), text, fill, font, anchor="ra" if right else "la")

    def wire(self, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
        """A curve from an output to an input, as the editor draws it."""
        bend = max(30.0, abs(end[0] - start[0]) / 3)
        points = [start, (start[0] + bend, start[1]), (end[0] - bend, end[1]), end]
        steps = [n / 24 for n in range(25)]
        self.pen.line([self.at(*bezier(points, t)) for t in steps], colour, 2, joint="curve")

    def plug(self, x: float, y: float, colour: str) -> None:
        """The end of a wire."""
        left, top = self.at(x, y)
        self.pen.ellipse([left - 2, top - 2, left + 2, top + 2], colour)


def bezier(points: list[tuple[float, float]], t: float) -> tuple[float, float]:
    """The point at t (0..1) of a cubic curve."""
    weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
    x, y = (sum(weight * point[axis] for weight, point in zip(weights, points, strict=True)) for axis in (0, 1))
    return x, y


def sockets(node: Node) -> list[Node]:
    """The inputs that are no widgets."""
    return [slot for slot in node["inputs"] if "widget" not in slot]


def input_point(node: Node, slot: Node) -> tuple[float, float]:
    """Where a wire ends: at its socket, or at the widget that it sets."""
    plain = sockets(node)
    (x, y), _ = node["pos"], node["size"]
    if slot in plain:
        return x, y + 14 + SLOT * plain.index(slot)
    widgets = [other for other in node["inputs"] if "widget" in other]
    rows = max(len(plain), len(node["outputs"]))
    return x, y + SLOT * rows + 22 + WIDGET * widgets.index(slot)


def draw_node(sheet: Sheet, node: Node) -> None:
    """A node: its title, its slots, and its values as far as there is room."""
    (x, y), (width, height) = node["pos"], node["size"]
    sheet.box(x, y - TITLE, width, height + TITLE, node.get("bgcolor", NODE), "#4a4a4a")
    sheet.box(x, y - TITLE, width, TITLE, node.get("color", "#2a2a2a"))
    sheet.write(x + 10, y - TITLE + 6, node.get("title") or node["type"], 18, width - 20)
    if node["type"] == "MarkdownNote":
        text = node["widgets_values"][0].replace("## ", "").replace("*", "")
        paragraphs(sheet, text, (x + 12, y + 8, x + width - 12, y + height))
        return
    for row, slot in enumerate(sockets(node)):
        sheet.write(x + 10, y + 5 + SLOT * row, slot["name"], 15, width / 2 - 14, FAINT)
    for row, slot in enumerate(node["outputs"]):
        sheet.write(x + width - 10, y + 5 + SLOT * row, slot["name"], 15, width / 2 - 14, FAINT, right=True)
    top = y + 12 + SLOT * max(len(sockets(node)), len(node["outputs"]))
    names = [slot["name"] for slot in node["inputs"] if "widget" in slot and slot["name"] != "upload"]
    for name, value in zip(names, shown_values(node), strict=False):
        if top + WIDGET > y + height:
            break
        if name in ("text", "prompt"):
            sheet.box(x + 8, top, width - 16, y + height - top - 8, "#242424")
            paragraphs(sheet, str(value), (x + 14, top + 4, x + width - 14, y + height - 8))
            break
        text = f"{name}  {value}".replace("\n", " ")
        sheet.box(x + 8, top, width - 16, WIDGET - 4, "#242424")
        sheet.write(x + 14, top + 3, text, 15, width - 28)
        top += WIDGET


def shown_values(node: Node) -> Iterator[Any]:
    """The widgets' values, without what follows a seed (how it changes after each run)."""
    widgets = [slot["name"] for slot in node["inputs"] if "widget" in slot and slot["name"] != "upload"]
    values = iter(node.get("widgets_values", []))
    for name in widgets:
        yield next(values, "")
        if name in ("seed", "noise_seed"):
            next(values, "")


def paragraphs(sheet: Sheet, text: str, box: tuple[float, float, float, float]) -> None:
    """A text, wrapped, as much of it as has room between left, top, right and bottom."""
    left, top, right, bottom = box
    font = ImageFont.load_default(max(7, 16 * SCALE))
    for paragraph in text.split("\n"):
        line = ""
        for word in [*paragraph.split(), None]:
            longer = f"{line} {word}".strip()
            if word and sheet.pen.textlength(longer, font) <= (right - left) * SCALE:
                line = longer
                continue
            if top + SLOT > bottom:
                return
            if line:
                sheet.write(left, top, line, 16, right - left)
                top += SLOT
            line = word or ""
        top += SLOT / 2


def draw(document: Node) -> Image.Image:
    """A picture of a workflow's graph."""
    sheet = Sheet(document)
    for group in document["groups"]:
        x, y, width, height = group["bounding"]
        red, green, blue = (channel // 3 for channel in ImageColor.getrgb(group["color"])[:3])
        sheet.box(x, y, width, height, f"#{red:02x}{green:02x}{blue:02x}", group["color"])
        sheet.write(x + 10, y + 6, group["title"], 24, width - 20)
    nodes = {node["id"]: node for node in document["nodes"]}
    wires = []
    for _, source, out, target, into, kind in document["links"]:
        start = nodes[source]
        origin = (start["pos"][0] + start["size"][0], start["pos"][1] + 14 + SLOT * out)
        end = input_point(nodes[target], nodes[target]["inputs"][into])
        wires.append((origin, end, WIRES.get(str(kind), "#a0a0a0")))
    for wire in wires:
        sheet.wire(*wire)
    for node in document["nodes"]:
        draw_node(sheet, node)
    for origin, end, colour in wires:
        sheet.plug(*origin, colour)
        sheet.plug(*end, colour)
    return sheet.image.quantize(COLOURS, dither=Image.Dither.NONE)


def variant_of(document: Node) -> Variant | None:
    """The model that a workflow is about, by its loader; None for workflows without one."""
    for node in document["nodes"]:
        if node["type"].startswith("AtelierLoad") and "models" in node["properties"]:
            chosen = [value for value in node["widgets_values"] if value in {variant.id for variant in load().variants}]
            if chosen:
                return load().variant(chosen[0])
    return None


def model_files(document: Node) -> list[ModelFile]:
    """The catalogue's entries of the files that a workflow loads, each once."""
    named = {model["name"] for node in document["nodes"] for model in node["properties"].get("models", [])}
    return [file for file in load().files.values() if file.name in named]


def gigabytes(files: Iterable[ModelFile]) -> str:
    """The sum of the sizes in words; what nobody listed is said."""
    sizes = [file.size for file in files]
    total = f"{sum(size for size in sizes if size) / 1e9:.1f} GB"
    return f"more than {total}" if None in sizes else f"about {total}"


def entry(path: Path, document: Node, interface: Interface) -> Iterator[str]:
    """The lines about one workflow."""
    text = next(node["widgets_values"][0] for node in document["nodes"] if node["type"] == "MarkdownNote")
    title, *rest = text.split("\n\n")
    yield f"### [{title.lstrip('# ')}](../workflows/{path.name})"
    yield ""
    yield f"![The graph of {path.name}](images/workflows/{path.stem}.png)"
    yield ""
    for paragraph in rest:
        yield paragraph
        yield ""
    takes = ", ".join(f"`{parameter.name}`" for parameter in interface.parameters)
    gives = ", ".join(f"`{output.name}`" for output in interface.outputs)
    yield f"Takes {takes}; gives {gives}."
    yield ""
    files = model_files(document)
    if files:
        listed = ", ".join(f"`{file.folder}/{file.name}`" for file in files)
        yield f"Files, {gigabytes(files)}: {listed}."
        yield ""


def page() -> str:
    """The index: families in the catalogue's order, their workflows by name."""
    schemas = NodeSchemas.builtin()
    sections: dict[str, list[str]] = {}
    families: dict[str, Family | None] = {family.id: family for family in load().families}
    families[""] = None
    counted = 0
    for path in sorted(WORKFLOWS.glob("*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        read = read_document(path)
        interface = find_interface(read.to_prompt(schemas), schemas, read.workflow)
        variant = variant_of(document)
        sections.setdefault(variant.family if variant else "", []).extend(entry(path, document, interface))
        counted += 1
    lines = [
        "# Workflows",
        "",
        f"<!-- Written by `{COMMAND}`; change the workflows, then run it. -->",
        "",
        f"{counted} workflows in `workflows/`. In ComfyUI they are in the template browser (*Workflow*, *Browse",
        "Templates*), where missing models are offered for download; `atelier serve` and `atelier run` take the files",
        "as they are. Green nodes are what a person changes: App Mode and the service offer the same.",
        "",
    ]
    for family, about in families.items():
        if family in sections:
            lines += [f"## {about.name if about else 'Without a model'}", ""]
            lines += [about.summary, ""] if about else []
            lines += sections[family]
    return "\n".join(lines).rstrip() + "\n"


def main() -> int:
    """Write the pictures and the page; with ``--check`` compare the page only."""
    text = page()
    if "--check" in sys.argv[1:]:
        same = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text
        told = "is up to date" if same else f"is not what the workflows say: run `{COMMAND}`"
        sys.stdout.write(f"docs/workflows.md {told}\n")
        return 0 if same else 1
    PICTURES.mkdir(parents=True, exist_ok=True)
    for path in sorted(WORKFLOWS.glob("*.json")):
        picture = draw(json.loads(path.read_text(encoding="utf-8")))
        picture.save(PICTURES / f"{path.stem}.png", optimize=True)
    for stale in PICTURES.glob("*.png"):
        if not (WORKFLOWS / f"{stale.stem}.json").is_file():
            stale.unlink()
    PAGE.write_text(text, encoding="utf-8", newline="\n")
    sys.stdout.write(f"docs/workflows.md and {len(list(PICTURES.glob('*.png')))} pictures\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
