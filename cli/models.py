"""Commands on models: models list, show, where, get, detect."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .console import FAILED, CommandError, UsageError, command, emit, progress, say
from .options import is_address
from .tables import columns

if TYPE_CHECKING:
    from ..packer.folders import ModelFolders

models_app = typer.Typer(
    help="What the catalogue knows of models, and what of it is here.", no_args_is_help=True, rich_markup_mode=None
)

NameArgument = Annotated[
    str, typer.Argument(metavar="VARIANT", help="A variant's id (`models list`), or one of a LoRA, control or file.")
]
ComfyUIFolderOption = Annotated[
    Path | None, typer.Option("--comfyui", metavar="DIR", help="A ComfyUI's folder; its extra_model_paths.yaml counts.")
]
SetOption = Annotated[
    str | None, typer.Option("--set", metavar="NAME", help="Which way to load it, as `models show` names it.")
]


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.add_typer(models_app, name="models")

    @command(models_app, "list")
    def list_command(
        family: Annotated[str | None, typer.Option("--family", metavar="F", help="Only this family.")] = None,
    ) -> None:
        """List families and variants.

        What each is for, how large its recommended files are, and its licence.
        """
        from ..catalogue import load
        from .model_pages import list_data, list_text

        families = [load().family(family)] if family else list(load().families)
        emit(list_data(families), lambda: list_text(families))

    @command(models_app, "show")
    def show_command(name: NameArgument) -> None:
        """Show everything known of a variant.

        Its files with address, size and sha256, its settings and its licence, and what of that nobody could verify.
        """
        from .model_choice import choose
        from .model_pages import show_data, show_text

        choice = choose(name)
        emit(show_data(choice), lambda: show_text(choice))

    @command(models_app, "where")
    def where_command(
        name: Annotated[str, typer.Argument(metavar="VARIANT|all", help="As in `models show`, or all.")],
        comfyui: ComfyUIFolderOption = None,
        models: Annotated[
            list[Path] | None, typer.Option("--models", metavar="DIR", help="A models folder; repeatable.")
        ] = None,
        check: Annotated[bool, typer.Option("--check", help="Compare every sha256, not only size and header.")] = False,
    ) -> None:
        """Say which files are here.

        Also which are missing, and which are another file under the right name; then the exit code is 1.
        """
        from ..packer.holdings import holdings
        from .model_choice import choose, everything
        from .model_pages import where_data, where_text

        folders, _ = places(comfyui, models or [])
        choice = everything() if name == "all" else choose(name)
        with progress("checking") as update:
            found = holdings(choice.known_files, folders, check=check, progress=update)
        emit(where_data(choice, found), lambda: where_text(choice, found))
        if any(one.state == "wrong" for one in found):
            raise typer.Exit(FAILED)

    @command(models_app, "get")
    def get_command(
        name: NameArgument,
        models: Annotated[
            Path | None, typer.Option("--models", metavar="DIR", help="The models folder to put them into.")
        ] = None,
        comfyui: ComfyUIFolderOption = None,
        roles: Annotated[
            list[str] | None,
            typer.Option("--role", metavar="ROLE", help="Only these: vae, text_encoder, lora, controlnet; repeatable."),
        ] = None,
        file_set: SetOption = None,
        accept: Annotated[
            bool, typer.Option("--accept-licence", help="You accept a licence that limits commercial use.")
        ] = False,
        replace: Annotated[
            bool, typer.Option("--replace", help="Replace another file that has the name of a wanted one.")
        ] = False,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; ask no server.")] = False,
    ) -> None:
        """Download a variant's files into ComfyUI's folders.

        Each is checked by its sha256 before it gets its name. What is here and right is left alone; a run that was
        stopped goes on where it stopped. Gated files need HF_TOKEN.
        """
        from ..packer.holdings import holdings
        from .model_choice import choose
        from .model_fetching import fetch_all, plan, plan_lines

        if comfyui and models:
            raise UsageError("--models and --comfyui both say where to put them; leave one out")
        folders, target = places(comfyui, [models] if models else [])
        choice = choose(name)
        files = choice.selected(file_set, roles or [])
        with progress("checking") as update:
            found = holdings(files, folders, check=True, progress=update)
        work = plan(choice, found, target, replace=replace)
        for line in plan_lines(work):
            say(line)
        if not dry_run:
            refused = [licence for licence in work.licences if licence.commercial != "yes"]
            if work.wanted and refused and not accept:
                names = " and ".join(f"{one.name} ({one.url})" for one in refused)
                raise UsageError(f"{choice.id}: read {names}; then run it again with --accept-licence")
        if work.free is not None and work.need > work.free:
            raise CommandError(
                f"{target}: {work.need / 1e9:.1f} GB are needed, {work.free / 1e9:.1f} GB are free; "
                "free some space, or choose another folder with --models"
            )
        report = fetch_all(work, dry_run=dry_run)
        emit(report.to_json(), report.text)

    @command(models_app, "detect")
    def detect_command(
        files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="safetensors files.")],
    ) -> None:
        """Tell what files are, by their headers.

        Family, variant and kind; names are not looked at, and no weights are read.
        """
        from ..catalogue import HeaderError, detect
        from .model_pages import plain

        rows = [("file", "kind", "family", "variant", "precision", "more")]
        data: list[dict[str, Any]] = []
        failed = []
        for file in files:
            try:
                found = detect(file)
            except HeaderError as error:
                failed.append(str(error))
                data.append({"file": str(file), "error": str(error)})
                continue
            data.append({"file": str(file), **plain(found)})
            family = ", ".join(found.families) or found.label or "-"
            more = ", ".join([*found.traits, *([found.format] if found.format else [])])
            rows.append((str(file), found.kind, family, ", ".join(found.variants) or "-", found.precision, more))
        if data and (len(rows) > 1 or not failed):
            emit(data, lambda: columns(rows))
        elif failed:
            emit(data, "")
        if failed:
            raise CommandError("\n".join(failed))


def places(comfyui: Path | None, models: list[Path]) -> tuple[ModelFolders, Path]:
    """The folders to look into, and the models folder that new files go to.

    Raises:
        UsageError: none is given nor configured, or one is not there.
    """
    from ..packer.folders import ModelFolders

    if comfyui is None and not models:
        from ..api import Settings

        settings = Settings()
        models = list(settings.models)
        if settings.comfyui and not is_address(settings.comfyui):
            comfyui = Path(settings.comfyui)
        elif not models:
            raise UsageError("say where models are: --models DIR, or --comfyui DIR for a ComfyUI's own")
    for option, folder in [("--comfyui", comfyui), *(("--models", folder) for folder in models)]:
        if folder is not None and not folder.expanduser().is_dir():
            hint = (
                "; models are files: give the folder, not the address"
                if folder.parts[:1] in (("http:",), ("https:",))
                else ""
            )
            raise UsageError(f"{option} {folder}: no such folder{hint}")
    comfyui = comfyui.expanduser() if comfyui else None
    given = [folder.expanduser() for folder in models]
    folders = ModelFolders.of(comfyui_dir=comfyui, models_dirs=given)
    return folders, given[0] if given else folders.roots[0]
