"""Writes the index of the node pack's nodes from their schemas and help pages: ``python docs/list_nodes.py``.

``--check`` writes nothing and ends with 1 where docs/nodes.md is not what they say.
"""

from __future__ import annotations

import sys
from pathlib import Path

from comfy_atelier.graph import NodeSchema, NodeSchemas

DOCS = Path(__file__).parent
HELP = DOCS.parent / "custom_nodes" / "web" / "docs"
PAGE = DOCS / "nodes.md"
COMMAND = "python docs/list_nodes.py"
GROUPS = ("load a model", "settings", "sample", "prompt", "control", "LoRA", "image", "remote models", "interface")
"""ComfyUI's menu below *Atelier*, in the order of a graph."""


def schemas() -> dict[str, list[NodeSchema]]:
    """Our nodes by the group of their menu, each by name."""
    known = NodeSchemas.builtin()
    found: dict[str, list[NodeSchema]] = {}
    for path in HELP.glob("*.md"):
        schema = known[path.stem]
        found.setdefault(schema.category.removeprefix("Atelier/"), []).append(schema)
    return {group: sorted(nodes, key=lambda node: node.display_name) for group, nodes in found.items()}


def row(schema: NodeSchema) -> str:
    """One line of a table; what it does is the first paragraph of its help page."""
    said = (HELP / f"{schema.class_type}.md").read_text(encoding="utf-8").split("\n\n")[1].replace("\n", " ")
    gives = ", ".join(output.name for output in schema.outputs) or "-"
    name = schema.class_type
    return f"| [{schema.display_name}](../custom_nodes/web/docs/{name}.md) | `{name}` | {said} | {gives} |"


def page() -> str:
    """The index. ValueError where a node is of a group that has no place here."""
    found = schemas()
    count = sum(map(len, found.values()))
    lines = [
        "# Nodes",
        "",
        f"<!-- Written by `{COMMAND}`; change the nodes and their help pages, then run it. -->",
        "",
        f"{count} nodes, under *Atelier* in ComfyUI's menu. Each has a help page there too, and a tooltip",
        "on every input. They wrap ComfyUI's own functions: every wire fits stock nodes.",
        "",
    ]
    for group in sorted(found, key=GROUPS.index):
        lines += [
            f"## {group[0].upper()}{group[1:]}",
            "",
            "| node | id | what it does | gives |",
            "| --- | --- | --- | --- |",
        ]
        lines += [*map(row, found[group]), ""]
    return "\n".join(lines).rstrip() + "\n"


def main() -> int:
    """Write the page; with ``--check`` compare it only."""
    text = page()
    if "--check" in sys.argv[1:]:
        same = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text
        told = "is up to date" if same else f"is not what the nodes say: run `{COMMAND}`"
        sys.stdout.write(f"docs/nodes.md {told}\n")
        return 0 if same else 1
    PAGE.write_text(text, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
