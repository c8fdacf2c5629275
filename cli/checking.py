"""Commands that judge before anything runs: lint, diff."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .console import FAILED, UsageError, command, emit, say
from .options import ComfyUIOption, SchemasOption, load_schemas

if TYPE_CHECKING:
    from ..catalogue import Detection
    from ..graph import Finding


class Threshold(StrEnum):
    """From which severity on `lint` fails."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


def register(app: typer.Typer) -> None:
    """Add this group's commands."""

    @command(app, "lint")
    def lint_command(
        sources: Annotated[
            list[str], typer.Argument(metavar="X...", help="Workflows, prompts, bundles, or pictures that hold one.")
        ],
        commercial: Annotated[
            bool, typer.Option("--commercial", help="Licences that forbid commercial use are errors.")
        ] = False,
        fail_on: Annotated[
            Threshold, typer.Option("--fail-on", help="Exit 1 from this severity on.")
        ] = Threshold.ERROR,
        sarif_file: Annotated[
            Path | None, typer.Option("--sarif", metavar="FILE", help="Also write a SARIF log, for code scanning.")
        ] = None,
        models: Annotated[
            list[Path] | None,
            typer.Option("--models", metavar="DIR", help="A models folder: files there are known by their headers."),
        ] = None,
        comfyui: ComfyUIOption = None,
        schemas: SchemasOption = None,
    ) -> None:
        """Say what is wrong before anything runs.

        Sizes, settings, parts of other model families, licences, missing nodes. Each rule has a section in
        docs/lint.md.
        """
        from ..graph import GraphError, lint, sarif
        from ..packer import Bundle, PackerError

        known = load_schemas(comfyui, schemas)
        found: dict[str, tuple[Finding, ...]] = {}
        unreadable: dict[str, str] = {}
        for source in sources:
            try:
                bundle = Bundle.open(source, schemas=known)
                found[source] = lint(
                    bundle.prompt, bundle.schemas, commercial=commercial, detect=header_reader(models or [])
                )
            except (GraphError, PackerError) as error:
                unreadable[source] = str(error)
        for message in unreadable.values():
            say(f"error: {message}")
        if sarif_file is not None:
            import json
            from importlib.metadata import version

            from ..packer import write_text

            log = sarif(found, version=version("comfy-atelier"))
            write_text(sarif_file, json.dumps(log, indent=2, ensure_ascii=False) + "\n")
        data = {
            "files": [{"file": file, "findings": [one.to_json() for one in ones]} for file, ones in found.items()],
            "unreadable": [{"file": file, "error": message} for file, message in unreadable.items()],
        }
        emit(data, lambda: lint_text(found))
        ranks = list(Threshold)
        worst = min((one.severity.rank for ones in found.values() for one in ones), default=len(ranks))
        if unreadable or worst <= ranks.index(fail_on):
            raise typer.Exit(FAILED)

    @command(app, "diff")
    def diff_command(
        old: Annotated[str, typer.Argument(metavar="A", help="The older workflow, prompt or bundle.")],
        new: Annotated[str, typer.Argument(metavar="B", help="The newer one.")],
        comfyui: ComfyUIOption = None,
        schemas: SchemasOption = None,
        exit_code: Annotated[
            bool, typer.Option("--exit-code", help="Exit 1 where a change breaks callers of the interface.")
        ] = False,
    ) -> None:
        """Show what changed between two workflows or bundles.

        Nodes, values, wires, models and the interface; changes that break callers are marked.
        """
        from ..graph import diff
        from ..packer import Bundle

        if old == new == "-":
            raise UsageError("only one of the two can come from standard input")
        known = load_schemas(comfyui, schemas)
        before, after = Bundle.open(old, schemas=known), Bundle.open(new, schemas=known)
        difference = diff(before.prompt, after.prompt, old_interface=before.interface, new_interface=after.interface)
        lines = [str(change) for change in difference.changes] or ["no difference"]
        data = {"breaking": difference.breaking, "changes": [change.to_json() for change in difference.changes]}
        emit(data, "\n".join(lines))
        if exit_code and difference.breaking:
            raise typer.Exit(FAILED)


def header_reader(folders: list[Path]) -> Callable[[str, str], Detection | None] | None:
    """What tells `lint` a model file's family: its header, where the file is in one of the models folders."""
    if not folders:
        return None
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"--models {folder}: no such folder")
    from ..catalogue import HeaderError, detect
    from ..packer.folders import ModelFolders

    known = ModelFolders.of(models_dirs=folders)

    def read(folder: str, name: str) -> Detection | None:
        found = known.find(folder, name)
        try:
            return detect(found.path) if found is not None else None
        except HeaderError:
            return None

    return read


def lint_text(found: dict[str, tuple[Any, ...]]) -> str:
    """The findings for people: a line each below their file, and a line with the sum."""
    lines = []
    for file, findings in found.items():
        lines.append(f"{file}: {'fine' if not findings else ''}".rstrip())
        lines += [f"  {finding}" for finding in findings]
    counts = dict.fromkeys(Threshold, 0)
    for findings in found.values():
        for finding in findings:
            counts[Threshold(finding.severity.value)] += 1
    total = ", ".join(f"{count} {word.value}{'' if count == 1 else 's'}" for word, count in counts.items() if count)
    return "\n".join([*lines, total or "nothing found"])
