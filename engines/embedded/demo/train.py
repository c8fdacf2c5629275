"""Trains the demonstration model from nothing: draws the lessons, teaches every part, scores it, writes the files.

    python -m comfy_atelier.engines.embedded.demo.train --output demo-weights

Needs what the embedded engine needs. Every part is kept in the output folder when it is done, so a training that was
stopped goes on where it was. docs/demo-model.md says what it takes and what came out.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import denoising, edges, listening, networks, pictures, reading, style, weights
from .evaluate import scores
from .scenes import training_scenes
from .training import Course, Place

if TYPE_CHECKING:
    import torch

Say = Callable[[str], None]


class Training:
    """One training: its folder, its place, and how much of each part's course is walked."""

    def __init__(self, folder: Path, place: Place, say: Say, part: float = 1.0) -> None:
        self.folder, self.place, self.say, self.part = folder, place, say, part
        folder.mkdir(parents=True, exist_ok=True)

    def course(self, course: Course) -> Course:
        """A part's course, shortened for a trial."""
        return replace(course, steps=max(2, round(course.steps * self.part)))

    def count(self, examples: int) -> int:
        """A number of examples, likewise."""
        return max(16, round(examples * self.part))

    def once(self, name: str, module: torch.nn.Module, teach: Callable[[], float]) -> None:
        """Teach a module, or take what an earlier run of this training left of it."""
        from safetensors.torch import load_file, save_file

        kept = self.folder / f"{name}.part.safetensors"
        if kept.is_file():
            module.load_state_dict(load_file(kept))
            module.eval()
            self.say(f"{name}: taken from {kept}")
            return
        begun = time.monotonic()
        teach()
        module.to("cpu")
        save_file({name: tensor.contiguous() for name, tensor in module.state_dict().items()}, kept)
        self.say(f"{name}: {time.monotonic() - begun:.0f} s")

    def autoencoder(self) -> Any:
        """The autoencoder, taught."""
        import torch

        course = self.course(pictures.COURSE)
        torch.manual_seed(course.seed)
        module = networks.autoencoder()
        self.once(
            "autoencoder",
            module,
            lambda: pictures.train_autoencoder(module, course, self.place, self.say, self.count(pictures.SCENES)),
        )
        return module.to(self.place.device, memory_format=torch.channels_last)

    def text(self) -> Any:
        """The text encoder, taught from words alone."""
        import torch

        course = self.course(listening.COURSE)
        torch.manual_seed(course.seed)
        module = networks.text_encoder()

        def teach() -> float:
            told = training_scenes(self.count(listening.SCENES), course.seed)
            return listening.train_text(module, told, course, self.place, self.say)

        self.once("text", module, teach)
        return module

    def latents(self, coder: Any, count: int, seed: int, *, striped: bool = False) -> tuple[list[Any], torch.Tensor]:
        """Training scenes with their captions, and their latents as the autoencoder gives them."""
        told = training_scenes(count, seed)
        self.say(f"drawing {count} scenes")
        return told, pictures.latents_of(coder, [one.scene for one in told], self.place, striped=striped)

    def model(self, coder: Any) -> networks.Parts:
        """The denoiser with its text encoder, taught in several courses."""
        import torch

        torch.manual_seed(denoising.COURSE.seed)
        text = self.text()
        torch.manual_seed(denoising.COURSE.seed)
        both = torch.nn.ModuleDict({"unet": networks.unet(), "text": text})
        both.register_buffer("mean", torch.zeros(networks.LATENT_CHANNELS))
        both.register_buffer("deviation", torch.ones(networks.LATENT_CHANNELS))

        def teach(whole: Course, scenes: int, *, first: bool) -> float:
            course = self.course(whole)
            told, found = self.latents(coder, self.count(scenes), course.seed)
            if first:
                both.mean.copy_(found.mean((0, 2, 3)))  # type: ignore[operator] # a buffer
                both.deviation.copy_(found.std((0, 2, 3)))  # type: ignore[operator] # a buffer
            scaled = (found - both.mean[None, :, None, None]) / both.deviation[None, :, None, None]  # type: ignore[index] # buffers
            examples = denoising.Examples(scaled.half(), [one.caption for one in told], course.seed)
            return denoising.train_model(both["unet"], text, examples, told, course, self.place, self.say)

        self.once("model-1", both, lambda: teach(denoising.COURSE, denoising.SCENES, first=True))
        for number, (course, scenes) in enumerate(denoising.FURTHER, start=2):
            self.once(f"model-{number}", both, partial(teach, course, scenes, first=False))
        both.to(self.place.device)
        return networks.Parts(
            unet=both["unet"],
            text=both["text"],
            autoencoder=coder,
            mean=tuple(both.mean.tolist()),  # type: ignore[operator] # a buffer
            deviation=tuple(both.deviation.tolist()),  # type: ignore[operator] # a buffer
        )

    def style(self, parts: networks.Parts) -> dict[str, torch.Tensor]:
        """The LoRA's tensors."""
        from safetensors.torch import load_file, save_file

        kept = self.folder / "style.part.safetensors"
        if not kept.is_file():
            course = self.course(style.COURSE)
            told, found = self.latents(parts.autoencoder, self.count(style.SCENES), course.seed, striped=True)
            captions = [one.caption for one in told]
            examples = denoising.Examples(parts.enter(found).half(), captions, course.seed)
            change, _ = style.train_style(parts.unet, parts.text, examples, course, self.place, self.say)
            save_file({name: tensor.contiguous() for name, tensor in change.tensors().items()}, kept)
        return load_file(kept)

    def control(self, parts: networks.Parts) -> Any:
        """The ControlNet, taught."""
        import torch

        course = self.course(edges.COURSE)
        torch.manual_seed(course.seed)
        module = networks.control()
        edges.begin_at(module, parts.unet)

        def teach() -> float:
            told, found = self.latents(parts.autoencoder, self.count(edges.SCENES), denoising.COURSE.seed)
            maps = edges.maps_of([one.scene for one in told], self.place.device)
            examples = denoising.Examples(parts.enter(found).half(), [one.caption for one in told], course.seed)
            return edges.train_control(module, parts.unet, parts.text, examples, maps, course, self.place, self.say)

        self.once("control", module, teach)
        return module

    def reader(self) -> Any:
        """The classifier, taught."""
        import torch

        course = self.course(reading.COURSE)
        torch.manual_seed(course.seed)
        module = reading.reader()
        self.once("reader", module, lambda: reading.train_reader(module, course, self.place, self.say))
        return module.to("cpu").float()

    def made(self, course: Course) -> dict[str, Any]:
        """What a file's header says of its making."""
        import torch

        return {
            "by": "comfy_atelier.engines.embedded.demo.train",
            "course": asdict(self.course(course)),
            "device": self.place.device,
            "precision": "bfloat16" if self.place.half else "float32",
            "torch": torch.__version__.partition("+")[0],
            "machine": platform.machine(),
        }

    def run(self) -> Mapping[str, float]:
        """Everything; returns the classifier's score and the model's on held-out captions."""
        coder = self.autoencoder()
        parts = self.model(coder)
        rough = pictures.preview(parts, pictures.COURSE.seed)
        further = [asdict(self.course(course)) for course, _ in denoising.FURTHER]
        made = {**self.made(denoising.COURSE), "further": further}
        networks.save_parts(parts, self.folder / weights.CHECKPOINT, made, rough)
        lora = self.style(parts)
        weights.save(self.folder / weights.LORA, lora, weights.header("lora", self.made(style.COURSE)))
        control = self.control(parts)
        weights.save(
            self.folder / weights.CONTROL,
            control.state_dict(),
            weights.header("control", self.made(edges.COURSE), control=networks.CONTROL),
        )
        reader = self.reader()
        reading.save_reader(reader, self.folder / weights.READER, self.made(reading.COURSE))
        seen = reading.score(reader, 500, 777)
        self.say(f"the reader reads {seen:.1%} of 500 new drawn scenes without a mistake")
        found = scores(networks.load_parts(self.folder / weights.CHECKPOINT), reader, self.say)
        return {"reader": seen, "right": found["held out"].right}


def main(arguments: Sequence[str] | None = None) -> int:
    """Train; returns the exit code (1: the score is below what the model is shipped with)."""
    import torch

    parser = argparse.ArgumentParser(prog="train", description="Train the demonstration model.")
    parser.add_argument("--output", type=Path, default=Path("demo-weights"), help="folder for the files")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16", help="of the products")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--part", type=float, default=1.0, help="of every course, for a trial")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    begun = time.monotonic()

    def say(words: str) -> None:
        print(f"{time.monotonic() - begun:6.0f} s  {words}", flush=True)  # noqa: T201 - a script

    place = Place(device=chosen.device, half=chosen.precision == "bfloat16")
    score = Training(chosen.output, place, say, chosen.part).run()
    return 0 if score["right"] >= 0.9 and score["reader"] >= 0.98 else 1


if __name__ == "__main__":
    raise SystemExit(main())
