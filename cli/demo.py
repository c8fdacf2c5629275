"""`atelier demo`: the main job from end to end, so that a fresh machine shows what the package is for."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from .console import CommandError, UsageError, command, console, emit, say

PHOTO = "example.png"  # the name that the contact sheet reads; a fresh ComfyUI has a picture of its own under it
READY_SECONDS = 180  # a managed ComfyUI imports torch and its nodes first
# What the demo asks for: not the saved values, so that the picture shows that the call was heard.
PROMPT = "a large red heart to the left of a small blue star on a yellow background"
SHEET_VALUES = {"title": "Harbour at dusk, from the demo", "blur_radius": 8, "blend_factor": 0.9}


@dataclass(frozen=True, kw_only=True, slots=True)
class Show:
    """One workflow that the demo can show.

    Attributes:
        workflow: its file, in the checkout or in site-packages.
        bundle: the name of the bundle that is made of it.
        values: what the service is asked for.
        models: folders of its models.
    """

    workflow: Path
    bundle: str
    values: Mapping[str, Any]
    models: tuple[Path, ...] = ()


def picture_show(prompt: str, seed: int) -> Show:
    """The demonstration model draws a prompt: the embedded engine's alone, for the model is this package's own kind."""
    from ..engines.embedded.demo import weights

    return Show(
        workflow=weights.WORKFLOW,
        bundle="demo.cpack.zip",
        values={"prompt": prompt, "seed": seed},
        models=(weights.MODELS,),
    )


def sheet_show() -> Show:
    """A contact sheet of one photograph: no model at all, so that a ComfyUI runs it too."""
    import comfy_atelier

    assert comfy_atelier.__file__ is not None
    workflow = Path(comfy_atelier.__file__).parent / "workflows" / "contact-sheet.json"
    return Show(workflow=workflow, bundle="contact-sheet.cpack.zip", values=SHEET_VALUES)


class DemoError(CommandError):
    """The demo's service did not do its part."""


@contextlib.contextmanager
def _service(bundle: Path, folder: Path, options: list[str]) -> Iterator[str]:
    """Run ``atelier serve`` on a free port; yields its address and stops it afterwards."""
    from ..api import free_port

    port = free_port()
    url = f"http://127.0.0.1:{port}"
    log = folder / "service.log"
    arguments = [str(bundle), "--port", str(port), "--data-dir", str(folder / "service-data"), *options]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "comfy_atelier.cli.main", "serve", *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
        try:
            _wait_ready(url, process, log)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-8:])
            raise DemoError(f"the service ended before it was ready; its last words ({log}):\n{tail}")
        try:
            with urllib.request.urlopen(f"{url}/health/ready", timeout=5):  # noqa: S310 - our own loopback address
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise DemoError(f"the service was not ready after {READY_SECONDS} s; see {log}")


def _call(url: str, values: Mapping[str, Any]) -> tuple[bytes, str]:
    """POST /generate; the picture's bytes and the name that the service gave it."""
    request = urllib.request.Request(  # noqa: S310 - our own loopback address
        f"{url}/generate",
        data=json.dumps(dict(values)).encode(),
        headers={"Content-Type": "application/json", "Accept": "image/png"},
    )
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:  # noqa: S310 - our own loopback address
            return answer.read(), answer.headers.get_filename() or "picture.png"
    except urllib.error.HTTPError as error:
        words = error.read().decode("utf-8", "replace")
        raise DemoError(f"the service answered {error.code}: {words}") from error


def register(app: typer.Typer) -> None:
    """Add this group's commands."""

    @command(app, "demo")
    def demo(
        folder: Annotated[Path, typer.Option("--output", "-o", help="Folder for everything the demo makes.")] = Path(
            "demo-output"
        ),
        comfyui: Annotated[
            str | None,
            typer.Option(help="Run on this ComfyUI (an address or a checkout's path)."),
        ] = None,
        comfyui_python: Annotated[
            str | None,
            typer.Option(help="The Python that runs that checkout."),
        ] = None,
        prompt: Annotated[str, typer.Option(help="What to draw: coloured shapes, where they are, on what.")] = PROMPT,
        seed: Annotated[int, typer.Option(help="Another number, another picture.", min=0)] = 5,
    ) -> None:
        """Pack, serve and call a workflow: a small diffusion model draws a prompt.

        Ends with the path of the picture that came back over HTTP. On a ComfyUI (``--comfyui``) it is a contact sheet,
        which needs no model: the demonstration model is a file of this package's own kind.
        """
        from ..packer import pack
        from .sample import save_sample

        if comfyui_python and not comfyui:
            raise UsageError("--comfyui-python says which Python runs a ComfyUI; give --comfyui PATH too")
        started = time.monotonic()
        folder = folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        photo = folder / PHOTO
        save_sample(photo)
        sheet = sheet_show()
        show = sheet if comfyui else picture_show(prompt, seed)
        bundle = folder / show.bundle
        others = "" if show is sheet else f" (and {sheet.bundle}: for the README's other commands)"
        say(f"1. drew a sample picture         {photo}{others}")
        if show is not sheet:
            # The README's commands use it.
            (folder / sheet.bundle).unlink(missing_ok=True)
            pack(sheet.workflow, folder / sheet.bundle, input_dirs=[folder])
        bundle.unlink(missing_ok=True)
        report = pack(show.workflow, bundle, input_dirs=[folder], models_dirs=show.models)
        say(f"2. packed the workflow           {bundle} ({report.size / 1e3:,.0f} kB)")
        options = [word for flag, value in (("--comfyui", comfyui), ("--comfyui-python", comfyui_python)) if value
                   for word in (flag, value)]  # fmt: skip
        with _service(bundle, folder, options) as url:
            on = (
                "ComfyUI; the demonstration model cannot run there, so a contact sheet"
                if comfyui
                else "embedded engine"
            )
            say(f"3. serves it                     {url} ({on})")
            asked = time.monotonic()
            data, name = _call(url, show.values)
            seconds = time.monotonic() - asked
        picture = folder / Path(name).name
        picture.write_bytes(data)
        size = _picture_size(data)
        say(f"4. called POST /generate         {json.dumps(dict(show.values))}")
        say(f"5. got the picture               {size[0]}x{size[1]}, {len(data) / 1e3:,.0f} kB in {seconds:.2f} s")
        say(f"\nServe it yourself: {_own_command()} serve {bundle} --port 8000")
        say("Then open http://localhost:8000/docs and try it.\nThe picture:")
        emit(
            {
                "picture": str(picture),
                "bundle": str(bundle),
                "size": size,
                "call_seconds": round(seconds, 3),
                "seconds": round(time.monotonic() - started, 3),
            },
            str(picture),
        )
        if console.quiet and not console.json:
            print(picture)  # noqa: T201 - the one thing that the demo is run for


def _picture_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels; raises `DemoError` where the answer is no whole picture."""
    import io

    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            return image.size
    except (UnidentifiedImageError, OSError) as error:
        raise DemoError(f"the service answered {len(data)} bytes that are no picture: {error}") from error


def _own_command() -> str:
    """How a person calls this command: the script beside the running Python where there is one."""
    script = Path(sys.executable).with_name("atelier.exe" if sys.platform == "win32" else "atelier")
    if script.is_file():
        try:
            return str(script.relative_to(Path.cwd()))
        except ValueError:
            return str(script)
    return f"{sys.executable} -m comfy_atelier.cli.main"
