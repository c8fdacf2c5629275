"""Depth, people and poses: models from their tensors' shapes, and what is made of what they say. Random weights."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from comfy_atelier.catalogue import ChoiceError, annotators, detect
from comfy_atelier.catalogue.depth_map import depth_map, working_size
from comfy_atelier.catalogue.pose_map import find_people, find_poses

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
_spec = importlib.util.spec_from_file_location("annotator_models", Path(__file__).parent / "annotator_models.py")
assert _spec
assert _spec.loader
_models = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_models)
CASES = _models.CASES


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any]]:
    """A file of each kind as it is published, alone in its folder, and the model that wrote it."""
    made = {}
    for kind, config in CASES.items():
        torch.manual_seed(7)
        model = getattr(transformers, annotators.CLASSES[kind])(config()).eval()
        folder = tmp_path_factory.mktemp(kind)
        model.save_pretrained(folder)
        (folder / "config.json").rename(folder / "config.away")
        made[kind] = (folder / "model.safetensors", model)
    return made


def inputs(kind: str) -> Any:
    torch.manual_seed(3)
    sizes = {"depth_estimator": (70, 56), "pose_estimator": (256, 192), "person_detector": (160, 160)}
    return torch.rand(1, 3, *sizes[kind])


def said(kind: str, output: Any) -> Any:
    names = {"depth_estimator": "predicted_depth", "pose_estimator": "heatmaps", "person_detector": "logits"}
    return getattr(output, names[kind])


@pytest.mark.parametrize("kind", CASES)
def test_a_file_alone_gives_the_model_that_wrote_it(kind: str, files: dict[str, tuple[Path, Any]]) -> None:
    path, model = files[kind]
    assert detect(path).kind == kind
    loaded = annotators.load(path, kind, "cpu")
    pixels = inputs(kind)
    with torch.inference_mode():
        first, second = (said(kind, one(pixel_values=pixels)) for one in (model, loaded))
    assert torch.equal(first, second)
    assert not loaded.training
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}


def test_a_configuration_beside_the_file_is_believed(files: dict[str, tuple[Path, Any]]) -> None:
    path, _ = files["depth_estimator"]
    values = json.loads(path.with_name("config.away").read_text(encoding="utf-8"))
    values |= {"depth_estimation_type": "metric", "max_depth": 20}
    beside = path.with_name("config.json")
    beside.write_text(json.dumps(values), encoding="utf-8")
    try:
        assert annotators.load(path, "depth_estimator", "cpu").config.max_depth == 20
        beside.write_text("{", encoding="utf-8")
        assert annotators.load(path, "depth_estimator", "cpu").config.depth_estimation_type == "relative"
        beside.write_text('{"architectures": ["LlamaForCausalLM"]}', encoding="utf-8")
        assert annotators.load(path, "depth_estimator", "cpu").config.depth_estimation_type == "relative"
    finally:
        beside.unlink()


def test_another_kind_is_refused_by_name(files: dict[str, tuple[Path, Any]]) -> None:
    path, _ = files["pose_estimator"]
    with pytest.raises(ChoiceError, match=r"is a pose estimator of ViTPose.*not a depth estimator"):
        annotators.load(path, "depth_estimator", "cpu")


def test_a_file_that_lacks_tensors(files: dict[str, tuple[Path, Any]], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(files["depth_estimator"][0])
    short = {name: value for name, value in state.items() if name != "head.conv3.bias"}
    save_file(short, tmp_path / "short.safetensors")
    with pytest.raises(ChoiceError, match=r"'short.safetensors' lacks 1 tensors \('head.conv3.bias'\)"):
        annotators.load(tmp_path / "short.safetensors", "depth_estimator", "cpu")
    odd = {name: value for name, value in state.items() if not name.startswith("neck.fusion_stage")}
    odd = {name: value for name, value in odd.items() if not name.startswith("neck.convs")}
    save_file(odd, tmp_path / "odd.safetensors")
    with pytest.raises(ChoiceError, match=r"'odd.safetensors' has an unusual layout \(KeyError\)"):
        annotators.load(tmp_path / "odd.safetensors", "depth_estimator", "cpu")


BASIC = {"sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2], "kind": "basic", "expansion": 0.5, "layers": 3}
DEEP = {"sizes": [256, 512, 1024, 2048], "depths": [3, 4, 6, 3], "kind": "bottleneck", "expansion": 1.0, "layers": 6}
FULL: list[tuple[str, dict[str, Any]]] = [
    ("depth_estimator", {"width": 384, "layers": 12, "neck": [48, 96, 192, 384], "fusion": 64}),
    ("depth_estimator", {"width": 1024, "layers": 24, "neck": [256, 512, 1024, 1024], "fusion": 256}),
    ("pose_estimator", {"width": 384, "layers": 12, "heads": 12, "simple": True}),
    ("pose_estimator", {"width": 1280, "layers": 32, "heads": 16, "simple": False}),
    ("person_detector", BASIC),
    ("person_detector", DEEP),
]


def published(kind: str, v: dict[str, Any]) -> Any:
    """The configurations that the published models have."""
    if kind == "depth_estimator":
        stages = (3, 6, 9, 12) if v["layers"] == 12 else (5, 12, 18, 24)
        backbone = transformers.Dinov2Config(
            hidden_size=v["width"], num_hidden_layers=v["layers"], num_attention_heads=v["width"] // 64, image_size=518,
            patch_size=14, out_features=[f"stage{stage}" for stage in stages], reshape_hidden_states=False,
        )  # fmt: skip
        return transformers.DepthAnythingConfig(
            backbone_config=backbone, reassemble_hidden_size=v["width"], neck_hidden_sizes=v["neck"],
            fusion_hidden_size=v["fusion"],
        )  # fmt: skip
    if kind == "pose_estimator":
        backbone = transformers.VitPoseBackboneConfig(
            hidden_size=v["width"], num_hidden_layers=v["layers"], num_attention_heads=v["heads"],
            out_features=[f"stage{v['layers']}"],
        )  # fmt: skip
        return transformers.VitPoseConfig(backbone_config=backbone, use_simple_decoder=v["simple"], num_labels=17)
    backbone = transformers.RTDetrResNetConfig(
        hidden_sizes=v["sizes"], depths=v["depths"], layer_type=v["kind"], out_features=["stage2", "stage3", "stage4"]
    )
    return transformers.RTDetrConfig(
        backbone_config=backbone, encoder_in_channels=v["sizes"][1:], hidden_expansion=v["expansion"],
        decoder_layers=v["layers"],
    )  # fmt: skip


@pytest.mark.parametrize(("kind", "values"), FULL)
def test_published_sizes_are_known_by_their_shapes(kind: str, values: dict[str, Any]) -> None:
    if kind == "person_detector" and int(transformers.__version__.split(".")[0]) > 4:
        pytest.skip("version 5 names some of its tensors anew; the files keep the names of version 4")
    config = published(kind, values)
    maker = getattr(transformers, annotators.CLASSES[kind])
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in maker(config).state_dict().items()}
        told = annotators.CONFIGS[kind](shapes)
        again = maker(told).state_dict()
    assert {name: tuple(value.shape) for name, value in again.items()} == shapes
    if "width" in values:
        assert told.backbone_config.num_attention_heads == config.backbone_config.num_attention_heads


def test_the_working_size() -> None:
    assert working_size(480, 640, 518, 14) == (518, 686)
    assert working_size(1000, 1000, 518, 14) == (518, 518)
    assert working_size(100, 1000, 518, 14)[1] <= 2072
    assert all(side % 14 == 0 for side in working_size(333, 777, 400, 14))


def test_near_is_white(files: dict[str, tuple[Path, Any]]) -> None:
    model = annotators.load(files["depth_estimator"][0], "depth_estimator", "cpu")
    image = torch.rand(40, 60, 3)
    depth = depth_map(model, image, 56)
    assert (tuple(depth.shape), depth.dtype) == ((40, 60), torch.float32)
    assert (float(depth.min()), float(depth.max())) == (0.0, 1.0)
    cut = depth_map(model, image, 56, cut_far=0.5)
    assert torch.equal(cut[depth >= 0.5], depth[depth >= 0.5])
    assert float(cut[depth < 0.5].max()) == 0.0

    class Ramp(torch.nn.Module):
        """Says that the left is near."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.config = SimpleNamespace(patch_size=14)

        def forward(self, pixel_values: Any) -> Any:
            assert abs(float(pixel_values.mean()) - (0.5 - 0.449) / 0.2263) < 0.05  # normalised as DINOv2 wants it
            across = torch.linspace(9.0, 1.0, pixel_values.shape[-1])
            return SimpleNamespace(predicted_depth=across.expand(1, *pixel_values.shape[-2:]))

    ramp = depth_map(Ramp(), torch.full((40, 60, 3), 0.5), 56)
    assert float(ramp[0, 0]) > 0.95
    assert float(ramp[0, -1]) < 0.05
    flat = depth_map(SameEverywhere(), torch.zeros(28, 28, 3), 28)
    assert float(flat.abs().max()) == 0.0


class SameEverywhere(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.config = SimpleNamespace(patch_size=14)

    def forward(self, pixel_values: Any) -> Any:
        return SimpleNamespace(predicted_depth=torch.ones(1, *pixel_values.shape[-2:]))


class Detector(torch.nn.Module):
    """Says where two people and a dog are."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, pixel_values: Any) -> Any:
        assert tuple(pixel_values.shape) == (1, 3, 640, 640)
        logits = torch.full((1, 5, 80), -9.0)
        logits[0, 0, 0], logits[0, 1, 0], logits[0, 2, 16] = 1.0, 3.0, 5.0
        logits[0, 3, 0] = 2.5  # nearly the same box as the surest
        boxes = torch.tensor([[[0.25, 0.5, 0.2, 0.6], [0.7, 0.5, 0.4, 1.0], [0.5, 0.5, 0.1, 0.1],
                               [0.7, 0.5, 0.41, 1.0], [0.1, 0.1, 0.0, 0.0]]])  # fmt: skip
        return SimpleNamespace(logits=logits, pred_boxes=boxes)


def test_people_are_found_the_surest_first() -> None:
    image = torch.zeros(100, 200, 3)
    found = find_people(Detector(), image, 0.5, 10)
    assert found == [pytest.approx((100, 0, 80, 100), abs=1e-3), pytest.approx((30, 20, 40, 60), abs=1e-3)]
    assert len(find_people(Detector(), image, 0.5, 1)) == 1
    assert len(find_people(Detector(), image, 0.9, 10)) == 1
    assert find_people(Detector(), image, 0.999, 10) == []


class Poses(torch.nn.Module):
    """Says that joint n is at a known place of the person's crop."""

    PLACES = tuple((8 + 2 * (n % 8), 6 + 3 * n) for n in range(17))

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.config = SimpleNamespace(backbone_config=SimpleNamespace(image_size=[256, 192]))
        self.seen: list[Any] = []

    def forward(self, pixel_values: Any) -> Any:
        assert tuple(pixel_values.shape[1:]) == (3, 256, 192)
        self.seen.append(pixel_values)
        down, across = torch.meshgrid(torch.arange(64.0), torch.arange(48.0), indexing="ij")
        maps = [torch.exp(-((across - x) ** 2 + (down - y) ** 2) / 8) * 0.9 for x, y in self.PLACES]
        return transformers.models.vitpose.modeling_vitpose.VitPoseEstimatorOutput(
            heatmaps=torch.stack(maps)[None].repeat(len(pixel_values), 1, 1, 1)
        )


def test_joints_are_placed_in_the_picture() -> None:
    """A box of 3:4 is widened by a quarter; the heatmap's corners are the corners of that."""
    boxes = [(50.0, 40.0, 60.0, 80.0), (0.0, 0.0, 30.0, 80.0)]
    model = Poses()
    first, second = find_poses(model, torch.rand(200, 300, 3), boxes)
    assert len(model.seen[0]) == 2
    for number, (x, y, score) in enumerate(first):
        across, down = Poses.PLACES[number]
        assert x == pytest.approx(80 - 37.5 + across / 47 * 75, abs=0.3)
        assert y == pytest.approx(80 - 50 + down / 63 * 100, abs=0.3)
        assert score == pytest.approx(0.9, abs=0.01)
    assert second[0][0] == pytest.approx(15 - 37.5 + 8 / 47 * 75, abs=0.3)  # a narrow box is made 3:4 first
    assert find_poses(model, torch.rand(20, 30, 3), []) == []


def test_real_classes_end_to_end(files: dict[str, tuple[Path, Any]]) -> None:
    image = torch.rand(120, 160, 3)
    detector = annotators.load(files["person_detector"][0], "person_detector", "cpu")
    boxes = find_people(detector, image, 0.0, 3)
    pose = annotators.load(files["pose_estimator"][0], "pose_estimator", "cpu")
    people = find_poses(pose, image, boxes or [(0.0, 0.0, 160.0, 120.0)])
    assert all(len(person) == 17 for person in people)
