"""Stable Diffusion end to end on a small checkpoint of seeded weights; files that are broken; what stays in memory.

That the numbers are ComfyUI's is shown by ``benchmarks/parity.py`` and by the tests of each part.
"""

from __future__ import annotations

import gc
import importlib
import json
import lzma
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the embedded engine needs torch")
np = pytest.importorskip("numpy")
safetensors_torch = pytest.importorskip("safetensors.torch")
try:
    importlib.import_module("diffusers.models.transformers.transformer_2d")
    importlib.import_module("transformers.models.clip.modeling_clip")
except (ImportError, RuntimeError) as error:  # not there, or what they load does not fit together
    pytest.skip(f"models need diffusers and transformers: {error}".splitlines()[0], allow_module_level=True)

from comfy_atelier.engines import events  # noqa: E402 # need torch
from comfy_atelier.engines.embedded.cache import NodeCache  # noqa: E402
from comfy_atelier.engines.embedded.context import Run  # noqa: E402
from comfy_atelier.engines.embedded.diffusion import loading, memory, safetensors_file  # noqa: E402
from comfy_atelier.engines.embedded.diffusion.weights import WeightPatch  # noqa: E402
from comfy_atelier.engines.embedded.executor import Executor  # noqa: E402
from comfy_atelier.engines.embedded.families import clip_tokenizer  # noqa: E402
from comfy_atelier.engines.embedded.planning import Planner  # noqa: E402
from comfy_atelier.engines.embedded.problems import NodeProblem  # noqa: E402
from comfy_atelier.engines.embedded.registry import CLASSES  # noqa: E402
from comfy_atelier.engines.errors import EngineError, InvalidPrompt, NodeFailed  # noqa: E402
from comfy_atelier.graph.prompt import Prompt  # noqa: E402
from comfy_atelier.graph.schemas import NodeSchemas  # noqa: E402

if clip_tokenizer.vocabulary_path() is None:
    pytest.skip("CLIP's vocabulary is not there", allow_module_level=True)

DATA = Path(__file__).parents[1] / "data" / "parity"


def shapes(record: str, layout: str) -> dict[str, list[int]]:
    found: dict[str, list[int]] = json.loads(lzma.decompress((DATA / f"{record}.json.xz").read_bytes()))[layout][
        "shapes"
    ]
    return found


def fill(name: str, shape: list[int]) -> Any:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape) / max(1.0, float(np.prod(shape[1:]))) ** 0.5
    if len(shape) == 1 and name.endswith("weight"):
        values = 1 + 0.1 * values
    return torch.from_numpy(values.astype(np.float32))


def small_checkpoint() -> dict[str, Any]:
    parts = {
        "model.diffusion_model.": shapes("unet", "SD 1.x, one level, no attention in the middle"),
        "cond_stage_model.transformer.": shapes("clip", "quick_gelu"),
        "first_stage_model.": shapes("autoencoder", "4 channels, quant_conv"),
    }
    tensors = {prefix + name: (name, shape) for prefix, layout in parts.items() for name, shape in layout.items()}
    made: dict[str, Any] = {}
    for name, (own, shape) in tensors.items():
        wide = name.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))  # of the text, which is 64 wide here
        made[name] = fill(own, [shape[0], 64] if wide else shape)
    return made


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for folder in ("checkpoints", "vae", "text_encoders"):
        (root / folder).mkdir()
    safetensors_torch.save_file(small_checkpoint(), root / "checkpoints" / "small.safetensors")
    return root


@pytest.fixture(autouse=True)
def own_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[memory.Store]:
    store = memory.Store(device="cpu")
    monkeypatch.setattr(memory, "_STORES", [store])
    with torch.inference_mode():
        yield store


@pytest.fixture(scope="module")
def executor() -> Executor:
    table = NodeSchemas.builtin("0.33.0")
    return Executor(Planner(NodeSchemas({name: table[name] for name in CLASSES if name in table})), NodeCache())


def prompt(checkpoint: str = "small.safetensors", **changes: Any) -> dict[str, Any]:
    sampler = {"seed": 1, "steps": 2, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    sampler.update({name: value for name, value in changes.items() if name in sampler})
    nodes = {
        "1": ("CheckpointLoaderSimple", {"ckpt_name": checkpoint}),
        "2": ("CLIPTextEncode", {"text": changes.get("text", "a red fox"), "clip": ["1", 1]}),
        "3": ("CLIPTextEncode", {"text": "", "clip": ["1", 1]}),
        "4": ("EmptyLatentImage", {"width": 64, "height": 64, "batch_size": 1}),
        "5": (
            "KSampler",
            {"model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0], **sampler},
        ),
        "6": ("VAEDecode", {"samples": ["5", 0], "vae": ["1", 2]}),
        "7": ("SaveImage", {"images": ["6", 0], "filename_prefix": "x"}),
    }
    return {name: {"class_type": kind, "inputs": dict(inputs)} for name, (kind, inputs) in nodes.items()}


def run(
    executor: Executor,
    models: Path,
    nodes: dict[str, Any],
    hear: Callable[[events.Event, threading.Event], None] = lambda event, cancelled: None,
) -> list[events.Event]:
    heard: list[events.Event] = []
    cancelled = threading.Event()

    def emit(event: events.Event) -> None:
        heard.append(event)
        hear(event, cancelled)

    executor.run(Prompt.from_json(nodes), Run(emit=emit, cancelled=cancelled, model_folders=[models]))
    return heard


def picture(heard: list[events.Event]) -> bytes:
    (made,) = [event.data for event in heard if isinstance(event, events.Produced)]
    assert isinstance(made, bytes)
    return made


def test_a_prompt_becomes_a_picture_that_follows_seed_and_text(executor: Executor, models: Path) -> None:
    first = picture(run(executor, models, prompt()))
    executor.cache.clear()
    assert picture(run(executor, models, prompt())) == first
    assert picture(run(executor, models, prompt(seed=2))) != first
    assert picture(run(executor, models, prompt(text="a blue house"))) != first


def test_each_step_is_told(executor: Executor, models: Path) -> None:
    heard = run(executor, models, prompt(seed=3, steps=4))
    told = [(event.value, event.maximum) for event in heard if isinstance(event, events.Progress)]
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_run_can_be_cancelled_between_steps(executor: Executor, models: Path) -> None:
    def stop(event: events.Event, cancelled: threading.Event) -> None:
        if isinstance(event, events.Progress) and event.value == 2:
            cancelled.set()

    with pytest.raises(EngineError, match="cancelled"):
        run(executor, models, prompt(seed=4, steps=50), stop)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PK\x03\x04" + bytes(40), "pickle"),
        (b"\x80\x02}q\x00.", "pickle"),
        (b"<html>not found</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid x", "web page"),
        (b"", "no safetensors file"),
        ((9).to_bytes(8, "little") + b"not json!", "broken header"),
        ((2).to_bytes(8, "little") + b"[]", "broken header"),
    ],
)
def test_what_is_no_model_is_told_apart(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    with pytest.raises(NodeProblem, match=message) as caught:
        safetensors_file.read_weights(path)
    assert "x.safetensors" in caught.value.message
    assert caught.value.remedy


def test_a_file_that_is_cut_off_says_so(executor: Executor, models: Path) -> None:
    whole = (models / "checkpoints" / "small.safetensors").read_bytes()
    (models / "checkpoints" / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidPrompt, match=r"node 1 .*'cut.safetensors' is cut off"):
        run(executor, models, prompt("cut.safetensors"))


def test_a_file_of_another_kind_is_refused_by_name(executor: Executor, models: Path) -> None:
    safetensors_torch.save_file({"x": torch.zeros(1)}, models / "checkpoints" / "other.safetensors")
    with pytest.raises(InvalidPrompt, match=r"'other.safetensors' holds no diffusion model"):
        run(executor, models, prompt("other.safetensors"))


def test_a_name_that_is_not_there_lists_what_is(executor: Executor, models: Path) -> None:
    with pytest.raises(InvalidPrompt, match=r"'gone.safetensors' is not in models/checkpoints.*small.safetensors"):
        run(executor, models, prompt("gone.safetensors"))
    with pytest.raises(InvalidPrompt):
        run(executor, models, prompt("../checkpoints/small.safetensors"))


def test_damaged_weights_are_named(executor: Executor, models: Path) -> None:
    tensors = small_checkpoint()
    name = "model.diffusion_model.out.2.bias"
    tensors[name] = tensors[name].clone()
    tensors[name][0] = float("nan")
    safetensors_torch.save_file(tensors, models / "checkpoints" / "damaged.safetensors")
    with pytest.raises(NodeFailed, match=r"'damaged.safetensors' is damaged: tensor 'out.2.bias'"):
        run(executor, models, prompt("damaged.safetensors"))


def test_a_latent_of_another_family_is_refused(executor: Executor, models: Path) -> None:
    nodes = prompt()
    nodes["5"]["inputs"]["denoise"] = 0.5
    nodes["8"] = {"class_type": "EmptySD3LatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}}
    nodes["9"] = {"class_type": "KSampler", "inputs": {**nodes["5"]["inputs"]}}
    nodes["10"] = {"class_type": "LatentConcat", "inputs": {"samples1": ["9", 0], "samples2": ["8", 0], "dim": "x"}}
    nodes["6"]["inputs"]["samples"] = ["10", 0]
    with pytest.raises(NodeFailed, match="differ in the other sizes"):
        run(executor, models, nodes)


def test_an_empty_latent_takes_the_models_channels(executor: Executor, models: Path) -> None:
    nodes = prompt(seed=6)
    nodes["4"] = {"class_type": "EmptySD3LatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}}
    assert picture(run(executor, models, nodes)) == picture(run(executor, models, prompt(seed=6)))


def test_models_stay_between_jobs_and_leave_when_there_is_no_room(
    executor: Executor, models: Path, own_store: memory.Store
) -> None:
    path = models / "checkpoints" / "small.safetensors"
    model = loading.checkpoint(path).model
    first = model.component.module()
    executor.cache.clear()
    assert loading.checkpoint(path).model is model
    assert model.component.module() is first
    own_store.clear()
    assert model.component.module() is not first


def test_weights_are_not_copied_but_patched_ones(models: Path, own_store: memory.Store) -> None:
    model = loading.checkpoint(models / "checkpoints" / "small.safetensors").model
    model.component.module()
    assert own_store.used == 0  # float32 on the CPU: views of the file
    name = "input_blocks.0.0.weight"
    patched = model.with_weight_patches([WeightPatch(name=name, apply=lambda tensor: tensor * 2)])
    module, original = patched.component.module(), model.component.module()
    assert torch.equal(module.down[0][0].weight, original.down[0][0].weight * 2)
    assert module.out.weight.data_ptr() == original.out.weight.data_ptr()
    assert own_store.used == module.down[0][0].weight.nbytes


@pytest.fixture
def halves(models: Path) -> Path:
    """The small checkpoint in float16: its weights must be cast."""
    tensors = {name: tensor.half() for name, tensor in small_checkpoint().items()}
    path = models / "checkpoints" / "halves.safetensors"
    safetensors_torch.save_file(tensors, path)
    return path


def test_weights_are_cast_ahead_and_used_then(halves: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: 10**12)
    store = memory.Store(device="cpu", limit=10**12)
    model = loading.checkpoint(halves).model
    store.prepare(model.component)
    ((_, ahead),) = store._ahead.values()
    ahead._thread.join()
    made = {holder.tensor.data_ptr() for holder in store.shared.values()}
    patch = WeightPatch(name="input_blocks.0.0.weight", apply=lambda tensor: tensor * 2)
    module = store.module(model.with_weight_patches([patch]).component)
    assert not store._ahead
    assert module.out.weight.data_ptr() in made
    assert module.down[0][0].weight.data_ptr() not in made, "a changed tensor is made anew"
    assert torch.equal(module.out.weight, store.module(model.component).out.weight)
    store.prepare(model.component)
    assert not store._ahead, "what is built is not cast again"


def test_nothing_is_cast_ahead_where_it_might_not_fit(halves: Path, models: Path) -> None:
    model = loading.checkpoint(halves).model
    store = memory.Store(device="cpu", limit=10)
    store.prepare(model.component)
    assert not store._ahead, "beyond the budget"
    store = memory.Store(device="cpu", limit=10**12)
    store.prepare(loading.checkpoint(models / "checkpoints" / "small.safetensors").model.component)
    assert not store._ahead, "float32 in the file: views of it"


def test_what_was_cast_for_nothing_leaves_first(halves: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: 10**12)
    store = memory.Store(device="cpu", limit=10**12)
    store.prepare(loading.checkpoint(halves).model.component)
    assert store._ahead
    store.clear()
    assert not store._ahead
    gc.collect()
    assert not store.shared


def test_the_least_recently_used_leaves_first(models: Path) -> None:
    store = memory.Store(device="cpu", limit=0)
    model = loading.checkpoint(models / "checkpoints" / "small.safetensors").model
    patches = [WeightPatch(name="out.2.bias", apply=lambda tensor: tensor + 1)]
    components = [model.with_weight_patches(patches).component for _ in range(3)]
    built = [store.module(component) for component in components]
    assert store.module(components[-1]) is built[-1]
    assert store.module(components[0]) is not built[0]


def test_running_out_of_memory_is_tried_again_and_then_told(own_store: memory.Store) -> None:
    calls: list[str] = []

    def work() -> None:
        calls.append("work")
        raise torch.OutOfMemoryError("no")

    def tiles() -> str:
        calls.append("tiles")
        return "made"

    assert own_store.attempt(work, otherwise=tiles) == "made"
    with pytest.raises(NodeProblem, match=r"memory ran out .*more are needed"):
        own_store.attempt(work, needs=10**15)
    assert calls == ["work", "tiles", "work", "work"]


def test_fp8_with_a_scale_is_what_it_stands_for(tmp_path: Path) -> None:
    weight = torch.tensor([[1.0, -2.0], [0.5, 4.0]]).to(torch.float8_e4m3fn)
    tensors = {"a.weight": weight, "a.scale_weight": torch.tensor(0.25), "scaled_fp8": torch.zeros(2)}
    safetensors_torch.save_file(tensors, tmp_path / "x.safetensors")
    weights = safetensors_file.read_weights(tmp_path / "x.safetensors")
    assert list(weights) == ["a.weight"]
    assert torch.equal(weights["a.weight"].float(), weight.float() * 0.25)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="reads what Linux tells of a process's memory")
def test_pages_of_a_file_leave_memory_when_its_tensor_was_copied(tmp_path: Path) -> None:
    path = tmp_path / "large.safetensors"
    safetensors_torch.save_file({"small": torch.ones(3), "large": torch.arange(4_000_000.0)}, path)
    weights = safetensors_file.read_weights(path)

    def resident() -> int:
        lines = Path("/proc/self/smaps").read_text().splitlines()
        begin = next(index for index, line in enumerate(lines) if line.endswith(path.name))
        return next(int(line.split()[1]) * 1024 for line in lines[begin:] if line.startswith("Rss:"))

    copied = weights["large"].to(torch.float64)
    assert resident() > 15_000_000
    safetensors_file.let_go(weights["large"])
    assert resident() < 1_000_000
    assert torch.equal(weights["large"].double(), copied)
    safetensors_file.let_go(copied)  # no file's: nothing happens
    assert torch.equal(weights["large"].double(), copied)
