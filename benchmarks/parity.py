"""The same prompts through a real ComfyUI and through the embedded engine, on the same files: how near the numbers are.

For each case both sides run the same prompt with float32 on the CPU, each in a process of its own that stays, and
record what happens inside: the noise levels, what the network was told, the first noisy latent and what the network
made of it, the final latent and the pictures. The table shows the largest relative difference of each and the
picture's PSNR in dB.

    ATELIER_TEST_COMFYUI=FOLDER=PYTHON python benchmarks/parity.py --models FOLDER [--only NAME ...] [--json FILE]

FOLDER is laid out as ComfyUI's ``models``: the random-weight models that ``benchmarks/tiny_models.py`` writes. A family
adds its cases to `parity_cases.py`; ``--prompt FILE ...`` runs prompts of your own (the API's format) in their place,
``--input-dir`` says where their pictures are. Exit status 1 where a case misses the measure: sigmas 1e-6, told and
first output 1e-4 relative, latent and picture 50 dB.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from parity_cases import Case, cases

SIGMAS, RELATIVE, DECIBELS = 1e-6, 1e-4, 50.0
LARGE, SMALLER, MULTIPLE = 512, 8, 16  # as in ``tiny_shim``


def comfyui_of(text: str) -> tuple[Path, Path]:
    """Folder and Python of the first ComfyUI in ATELIER_TEST_COMFYUI."""
    folder, _, python = text.split(os.pathsep)[0].partition("=")
    return Path(folder), Path(python)


class Comfyui:
    """A ComfyUI that runs prompts and records; see ``parity_comfyui.py``."""

    def __init__(self, folder: Path, python: Path, base: Path) -> None:
        script = Path(__file__).with_name("parity_comfyui.py").resolve()
        arguments = ["--cpu", "--base-directory", str(base), "--disable-api-nodes"]
        with (base / "comfyui.log").open("w") as log:
            self._process = subprocess.Popen(
                [str(python), str(script), *arguments],
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("ComfyUI ended; its log is comfyui.log in the base folder")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def run(self, name: str, prompt: Mapping[str, Any], out: Path, *, fresh: bool = True) -> tuple[dict[str, Any], str]:
        """The recorded arrays and an error, or ""; `fresh` lets go of earlier nodes' results first."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"name": name, "prompt": prompt, "out": str(out), "fresh": fresh}) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        with np.load(out) as arrays:
            return dict(arrays), answer.get("error", "")

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


class Embedded:
    """Our executor in this process, with listeners at the same places."""

    def __init__(self, base: Path, comfyui: Path) -> None:
        from comfy_atelier.engines.embedded.cache import NodeCache
        from comfy_atelier.engines.embedded.executor import Executor
        from comfy_atelier.engines.embedded.planning import Planner
        from comfy_atelier.engines.embedded.registry import CLASSES, SCHEMAS_OF
        from comfy_atelier.graph.schemas import NodeSchemas

        table = NodeSchemas.builtin(SCHEMAS_OF)
        schemas = NodeSchemas({name: table[name] for name in CLASSES if name in table}, version=SCHEMAS_OF)
        self._executor = Executor(Planner(schemas), NodeCache(0))
        self._base = base
        self._comfyui = comfyui
        self._kept: dict[str, Any] = {}
        self._counts: dict[str, int] = {}
        self._listen()
        self._shrink()

    def _shrink(self) -> None:
        """As ``tiny_shim`` does on ComfyUI's side: the pictures that edit models ask for are eight times smaller."""
        from comfy_atelier.engines.embedded import resize as sizes

        resize = sizes.resize

        def smaller(samples: Any, width: int, height: int, *args: Any) -> Any:
            if max(width, height) > LARGE:
                width, height = (max(1, round(side / SMALLER / MULTIPLE)) * MULTIPLE for side in (width, height))
            return resize(samples, width, height, *args)

        sizes.resize = smaller

    def _keep(self, name: str, tensor: Any, most: int = 100) -> None:
        number = self._counts.get(name, 0)
        self._counts[name] = number + 1
        if number < most:
            self._kept[f"{name}.{number}"] = tensor.detach().float().cpu().numpy().copy()

    def _listen(self) -> None:
        from comfy_atelier.engines.embedded import nodes_save
        from comfy_atelier.engines.embedded.diffusion import looking, sampling

        prepare, predicted, drawn = sampling.prepare, looking.Looker.predicted, sampling.drawn_noise
        call = sampling._Run.__call__

        def preparing(*args: Any) -> Any:
            ready = prepare(*args)
            for name, conditions in ready.items():
                for each in conditions:
                    for fact, value in sorted(each.facts.items()):
                        if hasattr(value.value, "detach"):
                            self._keep(f"told.{name}.{fact}", value.value)
            return ready

        def predicting(looker: Any, x: Any, *args: Any) -> Any:
            result = predicted(looker, x, *args)
            self._keep("model.input", x, 1)
            self._keep("model.denoised", result, 1)
            return result

        def drawing(*args: Any) -> Any:
            noise = drawn(*args)
            self._keep("noise", noise)
            return noise

        def running(run: Any) -> Any:
            result = call(run)
            self._keep("sigmas", run.sigmas)
            self._keep("latent", result.samples)
            return result

        sampling.prepare, sampling.drawn_noise = preparing, drawing
        looking.Looker.predicted = predicting  # type: ignore[method-assign] # it listens
        sampling._Run.__call__ = running  # type: ignore[method-assign] # it listens
        node = nodes_save.NODES["SaveImage"]
        save = node.function

        def saving(**kwargs: Any) -> Any:
            for image in kwargs["images"]:
                self._keep("picture", image)
            return save(**kwargs)

        object.__setattr__(node, "function", saving)

    def run(self, prompt: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        """The recorded arrays and an error, or ""."""
        from comfy_atelier.engines.embedded.context import Run
        from comfy_atelier.engines.errors import EngineError
        from comfy_atelier.graph.prompt import Prompt

        self._kept, self._counts = {}, {}
        run = Run(
            emit=lambda event: None,
            cancelled=threading.Event(),
            model_folders=[self._base / "models"],
            input_folder=self._base / "input",
            comfyui_folder=self._comfyui,
        )
        try:
            self._executor.run(Prompt.from_json(dict(prompt)), run)
        except EngineError as error:
            return self._kept, str(error)
        return self._kept, ""


def relative(ours: Any, theirs: Any) -> float:
    """The largest difference, in parts of the largest number; infinite where shapes differ or numbers are none."""
    if ours.shape != theirs.shape or not np.isfinite(ours).all() or not np.isfinite(theirs).all():
        return math.inf
    largest = float(np.abs(theirs).max(initial=0.0))
    difference = float(np.abs(ours - theirs).max(initial=0.0))
    return difference / largest if largest else difference


def decibels(ours: Any, theirs: Any, peak: float) -> float:
    """Peak signal to noise ratio, at most 200."""
    if ours.shape != theirs.shape or not np.isfinite(ours).all() or not np.isfinite(theirs).all():
        return -math.inf
    error = float(np.square(ours.astype(np.float64) - theirs).mean())
    return 200.0 if error == 0 else min(200.0, 10 * math.log10(peak * peak / error))


def pairs(ours: Mapping[str, Any], theirs: Mapping[str, Any], name: str) -> Iterator[tuple[Any, Any]]:
    """Arrays of that name on both sides; one that a side lacks is empty."""
    keys = sorted(key for key in {*ours, *theirs} if key.rpartition(".")[0] == name)
    for key in keys:
        yield ours.get(key, np.empty(0)), theirs.get(key, np.empty(0))


def measure(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, float]:
    """The differences by what they are of."""
    row: dict[str, float] = {}
    for name in ("sigmas", "noise", "model.input", "model.denoised"):
        row[name] = max((relative(*pair) for pair in pairs(ours, theirs, name)), default=0.0)
    # facts have other names on the two sides: what each conditioning's text is, is compared
    told = [(f"told.{kind}.text", f"told.{kind}.c_crossattn") for kind in ("positive", "negative", "middle")]
    row["told"] = 0.0
    for mine, its in told:
        for number in range(100):
            one, other = ours.get(f"{mine}.{number}"), theirs.get(f"{its}.{number}")
            if one is not None and other is not None:
                row["told"] = max(row["told"], relative(one, other))
            elif other is not None and one is None:
                row["told"] = math.inf
    latents, pictures = list(pairs(ours, theirs, "latent")), list(pairs(ours, theirs, "picture"))
    row["picture"] = min((decibels(a, b, 1.0) for a, b in pictures), default=-math.inf)
    unsampled = row["picture"] if not latents else -math.inf  # neither side has sampled: the picture is all there is
    row["latent"] = min(
        (decibels(a, b, float(np.abs(b).max(initial=0.0)) or 1.0) for a, b in latents), default=unsampled
    )
    return row


def good(row: Mapping[str, float]) -> bool:
    """Whether a case is within the measure."""
    small = row["sigmas"] <= SIGMAS and max(row["told"], row["model.denoised"], row["noise"]) <= RELATIVE
    return small and min(row["latent"], row["picture"]) >= DECIBELS


def base_folder(models: Path, folder: Path) -> Path:
    """A base folder for both sides with these models."""
    for name in ("custom_nodes", "input", "output", "models"):
        (folder / name).mkdir(exist_ok=True)
    for kind in sorted(path for path in models.iterdir() if path.is_dir()):
        (folder / "models" / kind.name).mkdir(exist_ok=True)
        for file in sorted(path for path in kind.rglob("*") if path.is_file()):
            link = folder / "models" / kind.name / file.relative_to(kind)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file.resolve())
    shim = Path(__file__).with_name("tiny_shim").resolve()  # lets ComfyUI count what it has fixed
    pack = Path(__file__).resolve().parent.parent
    for name, target in ((shim.name, shim), ("comfy_atelier", pack)):
        (folder / "custom_nodes" / name).symlink_to(target, target_is_directory=True)
    return folder


def write_byte_vocabulary(path: Path) -> None:
    """Llama's tokenizer as the shim has it where ComfyUI lacks its file: bytes stand for words."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]  # these bytes stand for themselves
    others = [byte for byte in range(256) if byte not in printable]
    numbers = {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}
    assert sorted(numbers) == letters
    begin = "<|begin_of_text|>"
    tokenizer = Tokenizer(models.BPE(vocab={**numbers, begin: 128000}, merges=[]))
    tokenizer.add_special_tokens([AddedToken(begin, special=True)])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{begin} $A", special_tokens=[(begin, 128000)])
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path))


def main() -> int:
    """Run the cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--models", type=Path, default=os.environ.get("ATELIER_TEST_MODELS"), help="models to use")
    parser.add_argument("--only", nargs="*", default=[], help="cases whose names begin so")
    parser.add_argument("--prompt", nargs="+", type=Path, help="prompts of your own in place of the cases")
    parser.add_argument("--input-dir", type=Path, help="pictures that they load")
    parser.add_argument("--json", type=Path, help="write the table here too")
    options = parser.parse_args()
    installs = os.environ.get("ATELIER_TEST_COMFYUI", "")
    if not installs or options.models is None:
        parser.error("set ATELIER_TEST_COMFYUI=FOLDER=PYTHON, and give --models")
    os.environ.setdefault("ATELIER_DEVICE", "cpu")
    os.environ.setdefault("ATELIER_MODEL_BYTES", str(4 * 10**9))  # ComfyUI's models want room too
    with tempfile.TemporaryDirectory(prefix="atelier-parity-") as scratch:
        base = base_folder(Path(options.models).resolve(), Path(scratch))
        if options.input_dir:
            shutil.copytree(options.input_dir, base / "input", dirs_exist_ok=True)
        chosen = list(of_files(options.prompt) if options.prompt else cases(base))
        if options.only:
            chosen = [case for case in chosen if case.name.startswith(tuple(options.only))]
        rows = table(chosen, base, *comfyui_of(installs))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return 0 if all(row["good"] for row in rows.values()) else 1


def of_files(paths: list[Path]) -> Iterator[Case]:
    """A case for each prompt in a file; names are the files'."""
    for path in paths:
        prompt = json.loads(path.read_text(encoding="utf-8"))
        yield Case(name=path.stem, prompt=prompt.get("prompt", prompt))


def table(chosen: list[Case], base: Path, folder: Path, python: Path) -> dict[str, Any]:
    """Run each case on both sides and print its row as it comes."""
    rows: dict[str, Any] = {}
    if not (folder / "comfy" / "text_encoders" / "llama_tokenizer" / "tokenizer.json").is_file():
        write_byte_vocabulary(base / "models" / "tokenizers" / "llama3" / "tokenizer.json")
    comfyui, embedded = Comfyui(folder, python, base), Embedded(base, folder)
    columns = ("sigmas", "noise", "told", "model.input", "model.denoised", "latent", "picture")
    print(f"| {'case':40} | " + " | ".join(f"{name:>9.9}" for name in columns) + " |")
    print("| --- |" + " --- |" * len(columns))
    try:
        for case in chosen:
            theirs, their_error = comfyui.run(case.name, case.prompt, base / "recorded.npz")
            ours, our_error = embedded.run(case.prompt)
            if their_error or our_error:
                rows[case.name] = {"good": False, "comfyui": their_error, "embedded": our_error}
                print(
                    f"| {case.name:40} | ComfyUI: {their_error or 'ran'}; embedded: {our_error or 'ran'} |", flush=True
                )
                continue
            row = measure(ours, theirs)
            rows[case.name] = {**row, "good": good(row)}
            texts = [f"{row[name]:9.1e}" for name in columns[:5]] + [f"{row[name]:6.1f} dB" for name in columns[5:]]
            print(f"| {case.name:40} | " + " | ".join(texts) + (" |" if good(row) else " | MISSED"), flush=True)
    finally:
        comfyui.close()
    print(f"{sum(row['good'] for row in rows.values())} of {len(rows)} within the measure")
    return rows


if __name__ == "__main__":
    sys.exit(main())
