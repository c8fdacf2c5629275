"""Each rule of lint speaks where it should, names the place and the remedy, and is silent elsewhere."""

import json
import lzma
import re
from pathlib import Path
from typing import Any

import pytest

from comfy_atelier.catalogue import Detection, load
from comfy_atelier.graph import RULES, Finding, NodeSchemas, Prompt, Severity, lint, sarif

SCHEMAS = NodeSchemas.builtin()
DOCS = Path(__file__).parents[2] / "docs"


def node(class_type: str, /, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def file_of(variant: str, role: str) -> str:
    return next(file.name for file in load().variant(variant).files if file.role == role)


def graph(variant: str, **changes: Any) -> dict[str, Any]:
    """A text-to-image prompt for a variant as its own catalogue entry says, with some values changed."""
    entry = load().variant(variant)
    sampling, resolution, latent = entry.sampling, entry.resolution, entry.latent
    assert sampling
    assert resolution
    assert latent
    roles = {file.role: file.name for file in entry.files}
    nodes = {
        "5": node(latent.node or "EmptyLatentImage", width=resolution.width, height=resolution.height, batch_size=1),
        "6": node("CLIPTextEncode", text="a lighthouse", clip=["2", 0]),
        "7": node("CLIPTextEncode", text="", clip=["2", 0]),
        "8": node(
            "KSampler",
            seed=1,
            steps=sampling.steps,
            cfg=sampling.cfg,
            sampler_name="euler",
            scheduler="normal",
            denoise=1,
            model=["1", 0],
            positive=["6", 0],
            negative=["7", 0],
            latent_image=["5", 0],
        ),
        "9": node("VAEDecode", samples=["8", 0], vae=["3", 0]),
        "10": node("SaveImage", images=["9", 0], filename_prefix="x"),
    }
    if "checkpoint" in roles:
        nodes["1"] = node("CheckpointLoaderSimple", ckpt_name=roles["checkpoint"])
        nodes["6"]["inputs"]["clip"] = nodes["7"]["inputs"]["clip"] = ["1", 1]
        nodes["9"]["inputs"]["vae"] = ["1", 2]
    else:
        encoders = [file.name for file in entry.files if file.role == "text_encoder"]
        nodes["1"] = node("UNETLoader", unet_name=roles["diffusion_model"], weight_dtype="default")
        nodes["2"] = (
            node("DualCLIPLoader", clip_name1=encoders[0], clip_name2=encoders[1], type=entry.text_encoder)
            if len(encoders) == 2
            else node("CLIPLoader", clip_name=encoders[0], type=entry.text_encoder)
        )
        nodes["3"] = node("VAELoader", vae_name=roles["vae"])
    for place, value in changes.items():
        where, _, name = place.partition("_")
        key = where.removeprefix("n")
        if isinstance(value, dict) and "class_type" in value:
            nodes[key] = value
        else:
            nodes[key]["inputs"][name] = value
    return nodes


def found(nodes: dict[str, Any], **options: Any) -> list[Finding]:
    return list(lint(Prompt.from_json(nodes), SCHEMAS, **options))


def brief(findings: list[Finding], *, licences: bool = False) -> list[tuple[str, str | None, str | None]]:
    return [(f.rule, f.node_id, f.input_name) for f in findings if licences or not f.rule.startswith("A4")]


VARIANTS = ["sd-1.5", "sdxl-base-1.0", "flux1-schnell", "flux1-dev", "qwen-image", "sd3.5-large", "hunyuan-image-2.1"]


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v in {e.id for e in load().variants}])
def test_what_the_catalogue_recommends_raises_nothing(variant: str) -> None:
    assert brief(found(graph(variant))) == []


@pytest.mark.parametrize(
    ("variant", "changes", "expected"),
    [
        ("flux1-schnell", {"n5_width": 1000}, [("A101", "5", "width")]),
        ("sd-1.5", {"n5_width": 1536, "n5_height": 1536}, [("A102", "5", None)]),
        ("flux1-schnell", {"n5_width": 256, "n5_height": 256}, [("A102", "5", None)]),
        ("flux1-schnell", {"n7_text": "blurry"}, [("A201", "7", "text")]),
        ("flux1-schnell", {"n8_cfg": 7}, [("A202", "8", "cfg")]),
        ("flux1-schnell", {"n8_steps": 40}, [("A203", "8", "steps")]),
        ("sd-1.5", {"n8_steps": 3}, [("A203", "8", "steps")]),
        ("flux1-schnell", {"n2_type": "sdxl"}, [("A301", "2", "type")]),
        ("qwen-image", {"n2_type": "sd3"}, [("A301", "2", "type")]),
        ("sd-1.5", {"n11": node("NoSuchNode")}, [("A501", "11", None)]),
        ("sd-1.5", {"n10": node("ImageInvert", image=["9", 0])}, [("A502", None, None)]),
        ("sd-1.5", {"n8_cfg": "much"}, [("A504", "8", "cfg")]),
    ],
)
def test_each_rule(variant: str, changes: dict[str, Any], expected: list) -> None:
    findings = found(graph(variant, **changes))
    assert brief(findings) == expected
    for finding in findings:
        assert finding.rule in str(finding)
        assert finding.remedy


def test_parts_of_other_families() -> None:
    qwen_vae = file_of("qwen-image", "vae")
    assert brief(found(graph("flux1-schnell", n3_vae_name=qwen_vae))) == [("A303", "3", "vae_name")]
    qwen_encoder = file_of("qwen-image", "text_encoder")
    assert brief(found(graph("flux1-schnell", n2_clip_name2=qwen_encoder))) == [("A302", "2", "clip_name2")]


def lora_of(family: str) -> str:
    return load().family(family).loras[0].file.name


def test_loras_of_another_family() -> None:
    lora = node("LoraLoaderModelOnly", model=["1", 0], lora_name=lora_of("qwen-image"), strength_model=1)
    findings = found(graph("sd-1.5", n20=lora, n8_model=["20", 0]))
    assert ("A305", "20", "lora_name") in brief(findings)
    unknown = lora | {"inputs": lora["inputs"] | {"lora_name": "mine.safetensors"}}
    assert brief(found(graph("sd-1.5", n20=unknown, n8_model=["20", 0]))) == []


def test_a_lora_that_saves_steps_has_its_own() -> None:
    lora = next(
        one for one in load().family("qwen-image").loras if one.sampling.get("steps") and "qwen-image" in one.variants
    )
    steps, cfg = lora.sampling["steps"], lora.sampling.get("cfg", 1)
    loader = node("LoraLoaderModelOnly", model=["1", 0], lora_name=lora.file.name, strength_model=1)
    right = {"n20": loader, "n8_model": ["20", 0], "n8_steps": steps, "n8_cfg": cfg}
    assert brief(found(graph("qwen-image", **right))) == []
    wrong = brief(found(graph("qwen-image", **(right | {"n8_steps": 50, "n8_cfg": 4}))))
    assert wrong == [("A203", "8", "steps"), ("A204", "8", "cfg")]
    off = loader | {"inputs": loader["inputs"] | {"strength_model": 0}}
    assert brief(found(graph("qwen-image", **(right | {"n20": off, "n8_steps": 50, "n8_cfg": 4})))) == []


def test_controlnets_of_another_family() -> None:
    control = load().family("sdxl" if load().family("sdxl").controls else "flux1").controls[0]
    nodes = graph(
        "sd-1.5",
        n20=node("ControlNetLoader", control_net_name=control.file.name),
        n21=node(
            "ControlNetApplyAdvanced",
            positive=["6", 0],
            negative=["7", 0],
            control_net=["20", 0],
            image=["22", 0],
            strength=1,
            start_percent=0,
            end_percent=1,
        ),
        n22=node("LoadImage", image="edges.png"),
    )
    nodes["8"]["inputs"] |= {"positive": ["21", 0], "negative": ["21", 1]}
    assert brief(found(nodes)) == [("A306", "20", "control_net_name")]


def test_hidream_e1_wants_its_size() -> None:
    entry = next(v for v in load().variants if v.resolution and v.resolution.exact)
    nodes = graph("flux1-schnell", n1_unet_name=entry.files[0].name)
    assert "A103" in {rule for rule, *_ in brief(found(nodes))}
    width, height = entry.resolution.sizes[0] if entry.resolution else (0, 0)
    nodes["5"]["inputs"] |= {"width": width, "height": height}
    assert "A103" not in {rule for rule, *_ in brief(found(nodes))}


def test_a_latent_of_another_scale() -> None:
    nodes = graph("hunyuan-image-2.1", n5=node("EmptySD3LatentImage", width=2048, height=2048, batch_size=1))
    assert ("A304", "5", None) in brief(found(nodes))


def test_licences_and_commercial_use() -> None:
    nodes = graph("flux1-dev")
    (finding,) = [f for f in found(nodes) if f.rule == "A401"]
    assert finding.severity is Severity.NOTE
    assert finding.url
    assert "FLUX" in finding.message
    (serious,) = [f for f in found(nodes, commercial=True) if f.rule == "A401"]
    assert serious.severity is Severity.ERROR
    assert [f.rule for f in found(graph("flux1-schnell"), commercial=True) if f.rule.startswith("A4")] == []
    (conditions,) = [f for f in found(graph("sd3.5-large"), commercial=True) if f.rule == "A402"][:1]
    assert conditions.severity is Severity.WARNING


def test_headers_count_more_than_names() -> None:
    """A checkpoint that somebody renamed: the name is unknown, the header says SDXL."""
    nodes = graph("sd-1.5", n1_ckpt_name="my mix.safetensors", n5_width=256, n5_height=256)
    assert brief(found(nodes)) == []

    def detect(folder: str, name: str) -> Detection | None:
        variants = tuple(v.id for v in load().family("sdxl").variants if v.resolution and v.resolution.width == 1024)
        return Detection(kind="checkpoint", families=("sdxl",), variants=variants) if folder == "checkpoints" else None

    assert brief(found(nodes, detect=detect)) == [("A102", "5", None)]


def ours(model: str, *, loader: str = "AtelierLoadFlux", variant: str = "automatic", **changes: Any) -> dict[str, Any]:
    """Text to image with our own loader, latent and sampler."""
    nodes = {
        "1": node(loader, model=model, variant=variant, vae="automatic", precision="default"),
        "4": node("AtelierChangeSettings", settings=["1", 3], steps=0, cfg=0.0, guidance=0.0, sampler="recommended",
                  scheduler="recommended"),
        "5": node("AtelierEmptyLatent", settings=["1", 3], aspect_ratio="3:2", megapixels=0.0, batch_size=1),
        "6": node("CLIPTextEncode", text="a lighthouse", clip=["1", 1]),
        "7": node("CLIPTextEncode", text="", clip=["1", 1]),
        "8": node("AtelierSample", model=["1", 0], settings=["4", 0], positive=["6", 0], negative=["7", 0],
                  latent=["5", 0], seed=1, denoise=1.0),
        "9": node("VAEDecode", samples=["8", 0], vae=["1", 2]),
        "10": node("SaveImage", images=["9", 0], filename_prefix="x"),
    }  # fmt: skip
    for place, value in changes.items():
        where, _, name = place.partition("_")
        nodes[where.removeprefix("n")]["inputs"][name] = value
    return nodes


def headers(**found: Detection) -> Any:
    """What headers say, by the file name without its ending."""
    return lambda folder, name: found.get(name.removesuffix(".safetensors")) if folder == "diffusion_models" else None


def test_an_automatic_loader_is_known_by_its_file() -> None:
    """Where the file is not at hand and its name is unknown, nothing is said of it."""
    schnell = Detection(kind="diffusion_model", families=("flux1",), architecture="flux1", variants=("flux1-schnell",))
    nodes = ours("my mix.safetensors", n7_text="fog", n4_steps=40)
    assert brief(found(nodes)) == []
    assert brief(found(nodes, detect=headers())) == []
    findings = found(nodes, detect=headers(**{"my mix": schnell}))
    assert brief(findings) == [("A203", "4", "steps"), ("A201", "7", "text")]
    assert "FLUX.1 [schnell]" in findings[0].message
    assert brief(found(ours("flux1-schnell.safetensors", n4_cfg=5.0))) == [("A202", "4", "cfg")]
    assert brief(found(ours("my mix.safetensors", variant="flux1-dev", n5_megapixels=12.0))) == [("A102", "5", None)]


def test_a_loader_is_given_another_model() -> None:
    sdxl = Detection(kind="diffusion_model", families=("sdxl",), architecture="sdxl")
    (finding,) = [f for f in found(ours("x.safetensors"), detect=headers(x=sdxl)) if f.rule == "A308"]
    assert (finding.node_id, finding.input_name, finding.severity) == ("1", "model", Severity.ERROR)
    assert "of sdxl, but 'Load FLUX.1' loads flux1" in finding.message
    assert "'Load SDXL' loads it" in finding.remedy
    kontext = Detection(
        kind="diffusion_model", families=("flux1",), architecture="flux1", variants=("flux1-dev", "flux1-kontext-dev")
    )
    nodes = ours("x.safetensors", variant="flux1-schnell")
    assert "A308" in {f.rule for f in found(nodes, detect=headers(x=kontext))}
    assert "A308" not in {f.rule for f in found(nodes)}


def test_an_empty_latent_for_a_model_that_makes_its_own() -> None:
    fill = "flux1-fill-dev.safetensors"
    (finding,) = [f for f in found(ours(fill, loader="AtelierLoadFluxTools")) if f.rule == "A307"]
    assert (finding.node_id, finding.severity) == ("5", Severity.ERROR)
    assert "takes its latent from InpaintModelConditioning" in finding.message
    assert "A307" not in {f.rule for f in found(ours("flux1-dev.safetensors"))}
    assert "A307" not in {f.rule for f in found(ours("unknown.safetensors", loader="AtelierLoadFluxTools"))}
    nodes = ours("unknown.safetensors") | {"2": node("AtelierRecommendedSettings", variant="flux1-canny-dev")}
    nodes["5"]["inputs"]["settings"] = ["2", 0]
    assert "A307" in {f.rule for f in found(nodes)}


def test_parts_of_our_own_nodes_are_judged_too() -> None:
    lora = next(lora.file.name for lora in load().family("sdxl").loras)
    nodes = ours("flux1-dev.safetensors", n1_t5xxl="qwen_2.5_vl_7b_fp8_scaled.safetensors")
    nodes["1"]["inputs"]["vae"] = "qwen_image_vae.safetensors"
    nodes["2"] = node("AtelierLoadLora", model=["1", 0], lora=lora, strength_model=1.0, strength_clip=1.0)
    nodes["8"]["inputs"]["model"] = ["2", 0]
    parts = [entry for entry in brief(found(nodes)) if entry[0].startswith("A3")]
    assert parts == [("A302", "1", "t5xxl"), ("A303", "1", "vae"), ("A305", "2", "lora")]
    names = {f.input_name for f in found(ours("flux1-dev.safetensors")) if f.rule == "A401"}
    assert names == {"model"}


def test_deprecated_classes() -> None:
    nodes = graph("sd-1.5", n20=node("ImageBatch", image1=["9", 0], image2=["9", 0]), n10_images=["20", 0])
    assert brief(found(nodes)) == [("A503", "20", None)]


def test_the_worst_comes_first() -> None:
    severities = [f.severity.rank for f in found(graph("flux1-dev", n7_text="x", n8_steps=999, n2_type="sd3"))]
    assert severities == sorted(severities)
    assert len(set(severities)) == 3


def test_sarif() -> None:
    findings = found(graph("flux1-dev", n8_cfg=7))
    log = sarif({"my flows/a b.json": findings, "c.json": []}, version="0.1.0")
    assert json.loads(json.dumps(log)) == log
    run = log["runs"][0]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert rules == sorted({f.rule for f in findings})
    for result, finding in zip(run["results"], findings, strict=True):
        assert result["ruleId"] == rules[result["ruleIndex"]] == finding.rule
        assert result["level"] in {"error", "warning", "note"}
        assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "my%20flows/a%20b.json"
    cfg = next(result for result in run["results"] if result["ruleId"] == "A202")
    assert cfg["locations"][0]["logicalLocations"] == [{"fullyQualifiedName": "8 KSampler.cfg", "kind": "object"}]


def test_every_rule_has_its_place_on_the_page() -> None:
    page = (DOCS / "lint.md").read_text(encoding="utf-8")
    assert re.findall(r"^### (A\d{3}) ", page, re.MULTILINE) == list(RULES)
    for rule in RULES.values():
        assert f"### {rule.id} {rule.name}" in page
        assert f"({rule.severity.value})" in page.split(f"### {rule.id} ")[1].splitlines()[0]


@pytest.mark.parametrize("version", ["0.33.0", "0.3.64"])
def test_official_templates_raise_notes_only(version: str, shared: Path) -> None:
    """Nothing is wrong with them: what remains are true notes (licences, deprecated nodes, negatives at cfg 1)."""
    schemas = NodeSchemas.builtin(version)
    with lzma.open(shared / "parity" / f"truth-{version}.json.xz") as file:
        truth = json.load(file)
    for name, case in truth.items():
        findings = lint(Prompt.from_json(case["prompt"]), schemas)
        assert [str(f) for f in findings if f.severity is not Severity.NOTE] == [], name
        assert {f.rule for f in findings} <= {"A201", "A401", "A402", "A503"}, name
