import pytest

from comfy_atelier.graph import InputRef, NodeSchemas, Prompt
from comfy_atelier.graph.markers import INPUT_MARKERS
from comfy_atelier.packer.folders import ModelFolders
from comfy_atelier.packer.models import locate_models, missing_model, model_refs, stated_models

SCHEMAS = NodeSchemas.builtin()


def refs(nodes):
    return [(ref.ref, ref.name, ref.folders) for ref in model_refs(Prompt.from_json(nodes), SCHEMAS)]


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


SAVE = node("SaveImage", images=["x", 0], filename_prefix="a")


def test_the_models_of_a_usual_workflow():
    nodes = {
        "4": node("CheckpointLoaderSimple", ckpt_name="sd15.safetensors"),
        "10": node("LoraLoader", model=["4", 0], clip=["4", 1], lora_name="style/ink.safetensors"),
        "6": node("CLIPTextEncode", clip=["10", 1], text="a cat, (embedding:nice:1.2), embedding:bad-hands"),
        "11": node("VAELoader", vae_name="pixel_space"),
        "x": node("VAEDecode", samples=["6", 0], vae=["11", 0]),
        "9": SAVE,
        "99": node("CheckpointLoaderSimple", ckpt_name="unused.safetensors"),
    }
    assert refs(nodes) == [
        (InputRef("4", "ckpt_name"), "sd15.safetensors", ("checkpoints",)),
        (InputRef("10", "lora_name"), "style/ink.safetensors", ("loras",)),
        (InputRef("6", "text"), "nice:1.2", ("embeddings",)),
        (InputRef("6", "text"), "bad-hands", ("embeddings",)),
    ]


CORE = [
    ("UNETLoader", "unet_name", "diffusion_models"),
    ("CLIPLoader", "clip_name", "text_encoders"),
    ("DualCLIPLoader", "clip_name2", "text_encoders"),
    ("QuadrupleCLIPLoader", "clip_name4", "text_encoders"),
    ("CLIPVisionLoader", "clip_name", "clip_vision"),
    ("ControlNetLoader", "control_net_name", "controlnet"),
    ("DiffControlNetLoader", "control_net_name", "controlnet"),
    ("StyleModelLoader", "style_model_name", "style_models"),
    ("GLIGENLoader", "gligen_name", "gligen"),
    ("UpscaleModelLoader", "model_name", "upscale_models"),
    ("LatentUpscaleModelLoader", "model_name", "latent_upscale_models"),
    ("HypernetworkLoader", "hypernetwork_name", "hypernetworks"),
    ("ImageOnlyCheckpointLoader", "ckpt_name", "checkpoints"),
    ("unCLIPCheckpointLoader", "ckpt_name", "checkpoints"),
    ("PhotoMakerLoader", "photomaker_model_name", "photomaker"),
    ("ModelPatchLoader", "name", "model_patches"),
    ("AudioEncoderLoader", "audio_encoder_name", "audio_encoders"),
    ("CreateHookLora", "lora_name", "loras"),
    ("LoraLoaderModelOnly", "lora_name", "loras"),
    ("OpticalFlowLoader", "model_name", "optical_flow"),
    ("LoadMoGeModel", "model_name", "geometry_estimation"),
    ("LTXAVTextEncoderLoader", "text_encoder", "text_encoders"),
]


@pytest.mark.parametrize(("class_type", "name", "folder"), CORE)
def test_every_loader_of_the_core(class_type, name, folder):
    nodes = {"1": node(class_type, **{name: "m.safetensors"}), "2": node("Unknown", any=["1", 0])}
    assert refs(nodes) == [(InputRef("1", name), "m.safetensors", (folder,))]


@pytest.mark.parametrize("version", ["0.3.64", "0.33.0"])
def test_no_list_of_files_of_the_core_is_forgotten(version):
    """Each combo of the core that depends on the machine is a model's, or known to be none."""
    no_models = {
        "CustomCombo.choice",
        "GeminiInputFiles.file",
        "OpenAIInputFiles.file",
        "LoadLatent.latent",
        "ModelAttentionBackend.attention",
    }
    schemas = NodeSchemas.builtin(version)
    for class_type, schema in schemas.items():
        if class_type in INPUT_MARKERS:
            continue
        for spec in schema.inputs:
            if spec.type == "COMBO" and spec.open_choices and not spec.upload and "folder" not in spec.name:
                label = f"{class_type}.{spec.name}"
                value = "x.yaml" if spec.name == "config_name" else "x.safetensors"
                prompt = Prompt.from_json(
                    {"1": node(class_type, **{spec.name: value}), "2": node("Unknown", any=["1", 0])}
                )
                known = [ref.folders for ref in model_refs(prompt, schemas) if ref.ref.node == "1"]
                assert (known == []) == (label in no_models), label
                assert all(folders for folders in known), label


def test_values_that_come_by_wire_from_a_marker():
    nodes = {
        "1": node("AtelierInputChoice", name="model", value="a.safetensors", choices="a.safetensors\nb.safetensors"),
        "2": node("CPackInputAny", input="b.safetensors"),
        "3": node("PrimitiveString", value="c.safetensors"),
        "4": node("CheckpointLoaderSimple", ckpt_name=["1", 0]),
        "5": node("LoraLoaderModelOnly", lora_name=["2", 0], model=["4", 0]),
        "6": node("LoraLoaderModelOnly", lora_name=["3", 0], model=["5", 0]),
        "7": node("LoraLoaderModelOnly", lora_name=["8", 0], model=["6", 0]),
        "8": node("StringConcatenate", string_a="x", string_b="y", delimiter=""),
        "9": node("Unknown", any=["7", 0]),
    }
    assert [(ref.node, name) for ref, name, _ in refs(nodes)] == [
        ("4", "a.safetensors"),
        ("5", "b.safetensors"),
        ("6", "c.safetensors"),
    ]


def test_classes_that_no_schema_tells_of():
    nodes = {
        "1": node(
            "Power Lora Loader",
            lora_1={"on": True, "lora": "a.safetensors", "strength": 1},
            lora_2={"on": False, "lora": "off.safetensors", "strength": 1},
        ),
        "2": node("UnetLoaderGGUF", unet_name="flux-Q4.gguf"),
        "3": node("Detector", model_name="bbox/face.pt", mode="yolo.v8", text="a model.safetensors\nin a text"),
        "4": node("Efficient Loader", ckpt_name="c.safetensors", vae_name="Baked VAE", lora_name="None"),
    }
    assert [(name, folders) for _, name, folders in refs(nodes)] == [
        ("a.safetensors", ("loras",)),
        ("flux-Q4.gguf", ("diffusion_models",)),
        ("bbox/face.pt", ()),
        ("c.safetensors", ("checkpoints",)),
    ]


def test_configurations_that_come_with_comfyui_are_none():
    nodes = {
        "1": node("CheckpointLoader", config_name="v1-inference.yaml", ckpt_name="a.ckpt"),
        "2": node("CheckpointLoader", config_name="mine.yaml", ckpt_name="None"),
        "3": node("Unknown", a=["1", 0], b=["2", 0]),
    }
    assert [name for _, name, _ in refs(nodes)] == ["a.ckpt", "mine.yaml"]


@pytest.fixture
def folders(tmp_path):
    for name in (
        "checkpoints/a.safetensors",
        "embeddings/nice.pt",
        "vae_approx/taesd_encoder.safetensors",
        "vae_approx/taesd_decoder.safetensors",
        "vae_approx/taehv.safetensors",
        "ultralytics/bbox/face.pt",
        "diffusers/sd/model_index.json",
        "diffusers/sd/unet/weights.safetensors",
    ):
        path = tmp_path / "models" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return ModelFolders.of(models_dirs=[tmp_path / "models"])


def located(folders, nodes, hints=None):
    found = locate_models(model_refs(Prompt.from_json(nodes), SCHEMAS), folders, hints)
    return {model.filename: model.found is not None for model in found}


def test_what_is_there_and_what_is_not(folders):
    nodes = {
        "1": node("CheckpointLoaderSimple", ckpt_name="a.safetensors"),
        "2": node("CheckpointLoaderSimple", ckpt_name="gone.safetensors"),
        "3": node("Detector", model_name="bbox/face.pt", other="nowhere.pt", hinted="h.pt"),
        "4": node("VAELoader", vae_name="taesd"),
        "5": node("VAELoader", vae_name="taehv.safetensors"),
        "6": node("VAELoader", vae_name="taesdxl"),
        "7": node("CLIPTextEncode", text="embedding:nice embedding:unknown", clip=["1", 1]),
        "8": node("DiffusersLoader", model_path="sd"),
        "9": node("Unknown", a=["1", 0], b=["2", 0], c=["4", 0], d=["5", 0], e=["6", 0], f=["7", 0], g=["8", 0]),
    }
    assert located(folders, nodes, {"h.pt": "mine"}) == {
        "models/checkpoints/a.safetensors": True,
        "models/checkpoints/gone.safetensors": False,
        "models/diffusers/sd/model_index.json": True,
        "models/diffusers/sd/unet/weights.safetensors": True,
        "models/embeddings/nice.pt": True,
        "models/mine/h.pt": False,
        "models/ultralytics/bbox/face.pt": True,
        "models/unknown/nowhere.pt": False,
        "models/vae/taesdxl": False,
        "models/vae_approx/taehv.safetensors": True,
        "models/vae_approx/taesd_decoder.safetensors": True,
        "models/vae_approx/taesd_encoder.safetensors": True,
    }


def test_the_error_of_a_missing_model_says_all(folders, tmp_path):
    prompt = Prompt.from_json(
        {"4": node("LoraLoaderModelOnly", lora_name="ink.safetensors"), "5": node("Any", a=["4", 0])}
    )
    (model,) = locate_models(model_refs(prompt, SCHEMAS), folders)
    message = str(missing_model(model, folders, "https://models.example.org/ink"))
    assert message == (
        "node 4 (LoraLoaderModelOnly), input 'lora_name': the model 'ink.safetensors' is not in "
        f"{tmp_path / 'models' / 'loras'}; put it into models/loras (from https://models.example.org/ink), name its "
        "folder with --models or --comfyui, or pass --allow-missing-models"
    )


def test_what_a_workflow_states_of_its_models():
    entry = {"name": "a.safetensors", "url": "https://example.org/a", "directory": "unet"}
    nodes = [
        {"properties": {"models": [entry | {"hash": "AB" * 32, "hash_type": "SHA256"}, 5, {"name": 7}]}},
        {
            "properties": {
                "models": [entry | {"name": "b", "url": "file:///etc/passwd", "hash": "x", "directory": "../x"}]
            }
        },
        {"properties": {"models": {"a": 1}}},
        {"properties": None},
        {},
    ]
    first, second = stated_models(nodes)
    assert (first.url, first.sha256, first.directory) == ("https://example.org/a", "ab" * 32, "diffusion_models")
    assert (second.name, second.url, second.sha256, second.directory) == ("b", None, None, None)
