"""Commands on bundles: pack, unpack, verify, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import FAILED, UsageError, command, emit, progress
from .options import ComfyUIOption, ComfyUIPythonOption, SchemasOption, SourceArgument, is_address, load_schemas


def register(app: typer.Typer) -> None:
    """Add this group's commands."""

    @command(app, "pack")
    def pack_command(
        source: Annotated[str, typer.Argument(metavar="WORKFLOW", help="A workflow or prompt, or a picture with one.")],
        output: Annotated[Path, typer.Option("--output", "-o", metavar="X.cpack.zip", help="The bundle to write.")],
        comfyui: ComfyUIOption = None,
        comfyui_python: ComfyUIPythonOption = None,
        schemas: SchemasOption = None,
        models: Annotated[
            list[Path] | None, typer.Option("--models", metavar="DIR", help="A models folder to look in; repeatable.")
        ] = None,
        extra_model_paths: Annotated[
            list[Path] | None, typer.Option(metavar="FILE", help="An extra_model_paths.yaml, as ComfyUI takes it.")
        ] = None,
        input_dirs: Annotated[
            list[Path] | None,
            typer.Option("--input-dir", metavar="DIR", help="Where input files are; default: beside the workflow."),
        ] = None,
        allow_missing: Annotated[
            bool, typer.Option("--allow-missing-models", help="Pack although models are not here; says which.")
        ] = False,
        everything: Annotated[
            bool,
            typer.Option("--all", help="List every node pack and package there, not only what is needed."),
        ] = False,
        online: Annotated[
            bool,
            typer.Option(
                "--online", help="Ask Hugging Face and Civitai for the source of models that nothing here knows."
            ),
        ] = False,
        params: Annotated[
            list[str] | None,
            typer.Option("--param", metavar="NAME=NODE.INPUT", help="Offer this input under this name; repeatable."),
        ] = None,
        hide: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Do not offer this input.")] = None,
        rename: Annotated[list[str] | None, typer.Option(metavar="OLD=NEW", help="Offer it so named.")] = None,
    ) -> None:
        """Pack a workflow into a bundle.

        A bundle holds the prompt, the workflow, the interface and the input files, and names the models (by sha256,
        with where to get them and their licence), node packs and packages that it needs. Packing twice gives the same
        bytes.
        """
        from ..packer import pack

        folder = None if comfyui is None or is_address(comfyui) else Path(comfyui).expanduser()
        if folder is not None and not folder.is_dir():
            raise UsageError(f"--comfyui {comfyui}: no such folder")
        with progress("packing") as update:
            report = pack(
                source,
                output,
                schemas=load_schemas(comfyui, schemas),
                comfyui_dir=folder,
                comfyui_python=comfyui_python,
                models_dirs=models or (),
                extra_model_paths=extra_model_paths or (),
                input_dirs=input_dirs or (),
                allow_missing_models=allow_missing,
                everything=everything,
                online=online,
                params=params or (),
                hide=hide or (),
                rename=rename or (),
                progress=update,
            )
        lines = [f"{output}: {report.size / 1e6:.2f} MB, {report.nodes} nodes, sha256 {report.sha256}"]
        lines += [f"  input  {name}" for name in report.inputs]
        lines += [f"  model  {model.filename}" for model in report.models]
        lines += [f"note: {note}" for note in report.notes]
        emit(report.to_json(), "\n".join(lines))

    @command(app, "unpack")
    def unpack_command(
        bundle: Annotated[Path, typer.Argument(metavar="X.cpack.zip", help="The bundle.")],
        folder: Annotated[Path, typer.Option("--dir", "-d", metavar="DIR", help="A new or empty folder.")],
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, write nothing.")] = False,
    ) -> None:
        """Unpack a bundle's files into a new folder.

        Nothing is installed, downloaded or run.
        """
        from ..packer import unpack

        report = unpack(bundle, folder, dry_run=dry_run)
        if dry_run:
            lines = [
                f"{bundle}: would write {len(report.files)} files, {report.size / 1e6:.2f} MB; nothing was written"
            ]
        else:
            lines = [f"{folder}: {len(report.files)} files, {report.size / 1e6:.2f} MB"]
        lines += [f"  {name}" for name in report.files]
        lines += [f"left in the bundle: {one.name} ({one.reason})" for one in report.left_out]
        lines += [f"note: {note}" for note in report.notes]
        emit(report.to_json(), "\n".join(lines))

    @command(app, "verify")
    def verify_command(
        bundle: Annotated[Path, typer.Argument(metavar="X.cpack.zip", help="The bundle.")],
    ) -> None:
        """Check a bundle from end to end.

        The archive, every checksum, the manifests, the prompt.
        """
        from ..packer import verify

        report = verify(bundle)
        verdict = "fine" if report.ok else "NOT fine"
        text = "\n".join([f"{bundle}: {verdict}, {report.checked} members read", *map(str, report.findings)])
        emit(report.to_json(), text)
        if not report.ok:
            raise typer.Exit(FAILED)

    @command(app, "export")
    def export_command(
        source: SourceArgument,
        folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder for the project.")],
        comfyui: ComfyUIOption = None,
        schemas: SchemasOption = None,
        input_dirs: Annotated[
            list[Path] | None, typer.Option("--input-dir", metavar="DIR", help="Where input files are.")
        ] = None,
    ) -> None:
        """Write a service project of your own.

        A typed FastAPI module, Dockerfile, compose file, README, the bundle, and a wheel of this package.
        """
        from ..packer import Bundle, export

        bundle = Bundle.open(source, schemas=load_schemas(comfyui, schemas), input_dirs=tuple(input_dirs or ()))
        report = export(bundle, folder)
        lines = [f"{folder}:", *[f"  {name}" for name in report.files]]
        lines += ["", f"next: see {folder / 'README.md'}"]
        emit(report.to_json(), "\n".join(lines))
