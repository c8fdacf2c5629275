"""The three sources of an interface: marker nodes, App Mode, the graph itself."""

from typing import Any

import pytest

from comfy_atelier.graph import InputRef, Interface, NodeSchemas, Prompt, Source, Workflow, find_interface


@pytest.fixture(scope="module")
def schemas() -> NodeSchemas:
    return NodeSchemas.builtin()


def node(class_type: str, title: str = "", /, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs} | ({"_meta": {"title": title}} if title else {})


def found(nodes: dict[str, Any], schemas: NodeSchemas, workflow: dict | None = None, **more: Any) -> Interface:
    """The interface of a prompt; it is always one that goes through its JSON unchanged."""
    parsed = Workflow.from_json(workflow) if workflow else None
    interface = find_interface(Prompt.from_json(nodes), schemas, parsed, **more)
    interface.validate()
    assert Interface.from_json(interface.to_json()) == interface
    return interface


def brief(interface: Interface) -> dict[str, tuple[str, str, Any]]:
    return {p.name: (p.type.value, ".".join(p.target), p.default) for p in interface.parameters}


def text_to_image() -> dict[str, Any]:
    return {
        "3": node(
            "KSampler",
            seed=42,
            steps=20,
            cfg=8,
            sampler_name="euler",
            scheduler="normal",
            denoise=1,
            model=["4", 0],
            positive=["6", 0],
            negative=["7", 0],
            latent_image=["5", 0],
        ),
        "4": node("CheckpointLoaderSimple", ckpt_name="sd15.safetensors"),
        "5": node("EmptyLatentImage", width=512, height=768, batch_size=1),
        "6": node("CLIPTextEncode", text="a lighthouse", clip=["4", 1]),
        "7": node("CLIPTextEncode", text="blurry", clip=["4", 1]),
        "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": node("SaveImage", images=["8", 0], filename_prefix="ComfyUI"),
    }


TEXT_TO_IMAGE = {
    "prompt": ("text", "6.text", "a lighthouse"),
    "negative_prompt": ("text", "7.text", "blurry"),
    "seed": ("integer", "3.seed", 42),
    "steps": ("integer", "3.steps", 20),
    "cfg": ("number", "3.cfg", 8.0),
    "width": ("integer", "5.width", 512),
    "height": ("integer", "5.height", 768),
    "batch_size": ("integer", "5.batch_size", 1),
}


def test_text_to_image(schemas: NodeSchemas) -> None:
    interface = found(text_to_image(), schemas)
    assert interface.source is Source.GRAPH
    assert brief(interface) == TEXT_TO_IMAGE
    seed = interface.parameter("seed")
    assert seed
    assert (seed.minimum, seed.maximum) == (0, 2**64 - 1)
    prompt = interface.parameter("prompt")
    assert prompt
    assert prompt.multiline
    assert [(o.name, o.type.value, o.node) for o in interface.outputs] == [("image", "image", "9")]


def test_the_prompt_is_found_through_what_lies_between(schemas: NodeSchemas) -> None:
    nodes = text_to_image() | {
        "6": node("CLIPTextEncode", text=["20", 0], clip=["4", 1]),
        "20": node("PreviewAny", source=["21", 0]),
        "21": node("ComfySwitchNode", switch=["22", 0], on_false=["23", 0], on_true=["24", 0]),
        "22": node("PrimitiveBoolean", "Boolean (Refine Prompt?)", value=True),
        "23": node("PrimitiveStringMultiline", "Plain", value="not taken"),
        "24": node("StringConcatenate", string_a=["25", 0], string_b=["26", 0], delimiter=" "),
        "25": node("PrimitiveStringMultiline", "System Prompt", value="You are an expert."),
        "26": node("PrimitiveStringMultiline", "Text (User Prompt)", value="a lighthouse"),
        "30": node("ConditioningCombine", conditioning_1=["31", 0], conditioning_2=["6", 0]),
        "31": node(
            "ControlNetApplyAdvanced",
            positive=["6", 0],
            negative=["7", 0],
            control_net=["32", 0],
            image=["33", 0],
            strength=0.7,
            start_percent=0,
            end_percent=1,
        ),
        "32": node("ControlNetLoader", control_net_name="canny.safetensors"),
        "33": node("LoadImage", image="edges.png"),
    }
    nodes["3"]["inputs"] |= {"positive": ["30", 0], "negative": ["31", 1]}
    interface = found(nodes, schemas)
    assert brief(interface) == TEXT_TO_IMAGE | {
        "prompt": ("text", "26.value", "a lighthouse"),
        "image": ("image", "33.image", "edges.png"),
        "control_strength": ("number", "31.strength", 0.7),
        "refine_prompt": ("boolean", "22.value", True),
    }
    assert list(brief(interface))[:3] == ["prompt", "negative_prompt", "image"]


def test_guiders_schedulers_and_a_zeroed_negative(schemas: NodeSchemas) -> None:
    """FLUX as its templates wire it: BasicGuider, FluxGuidance, RandomNoise, BasicScheduler; size said twice."""
    interface = found(
        {
            "1": node("UNETLoader", unet_name="flux.safetensors", weight_dtype="default"),
            "2": node("DualCLIPLoader", clip_name1="a", clip_name2="b", type="flux"),
            "3": node("CLIPTextEncodeFlux", clip=["2", 0], clip_l="a fox", t5xxl="a fox", guidance=3.5),
            "4": node("BasicGuider", model=["1", 0], conditioning=["3", 0]),
            "5": node("RandomNoise", noise_seed=7),
            "6": node("PrimitiveInt", "Width", value=1024),
            "7": node("EmptySD3LatentImage", width=["6", 0], height=768, batch_size=1),
            "8": node("ModelSamplingFlux", model=["1", 0], width=["6", 0], height=768, max_shift=1.15, base_shift=0.5),
            "9": node("BasicScheduler", model=["8", 0], scheduler="simple", steps=20, denoise=1),
            "10": node("KSamplerSelect", sampler_name="euler"),
            "11": node(
                "SamplerCustomAdvanced",
                noise=["5", 0],
                guider=["4", 0],
                sampler=["10", 0],
                sigmas=["9", 0],
                latent_image=["7", 0],
            ),
            "12": node("VAEDecode", samples=["11", 0], vae=["13", 0]),
            "13": node("VAELoader", vae_name="ae.safetensors"),
            "14": node("SaveImage", images=["12", 0], filename_prefix="x"),
        },
        schemas,
    )
    assert brief(interface) == {
        "prompt": ("text", "3.t5xxl", "a fox"),
        "seed": ("integer", "5.noise_seed", 7),
        "steps": ("integer", "9.steps", 20),
        "guidance": ("number", "3.guidance", 3.5),
        "width": ("integer", "6.value", 1024),
        "height": ("integer", "7.height", 768),
        "batch_size": ("integer", "7.batch_size", 1),
    }
    prompt, width, height = (interface.parameter(name) for name in ("prompt", "width", "height"))
    assert prompt
    assert prompt.also == (InputRef("3", "clip_l"),)
    assert height
    assert height.also == (InputRef("8", "height"),)
    assert width
    assert (width.minimum, width.maximum, width.also) == (16, 16384, ())  # the latent's bounds, not the primitive's


def test_two_stages_share_their_prompts_and_only_the_first_seed_counts(schemas: NodeSchemas) -> None:
    nodes = text_to_image()
    stage = {
        "cfg": 8,
        "steps": 25,
        "sampler_name": "euler",
        "scheduler": "normal",
        "start_at_step": 0,
        "end_at_step": 20,
    }
    nodes["3"] = node(
        "KSamplerAdvanced",
        **stage,
        add_noise="enable",
        noise_seed=1,
        return_with_leftover_noise="enable",
        model=["4", 0],
        positive=["6", 0],
        negative=["7", 0],
        latent_image=["5", 0],
    )
    nodes["10"] = node(
        "KSamplerAdvanced",
        **stage,
        add_noise="disable",
        noise_seed=99,
        return_with_leftover_noise="disable",
        model=["4", 0],
        positive=["16", 0],
        negative=["7", 0],
        latent_image=["3", 0],
    )
    nodes["16"] = node("CLIPTextEncode", text="a lighthouse", clip=["4", 1])
    nodes["8"]["inputs"]["samples"] = ["10", 0]
    interface = found(nodes, schemas)
    assert [p.name for p in interface.parameters] == list(TEXT_TO_IMAGE)
    also = {p.name: [".".join(ref) for ref in p.also] for p in interface.parameters if p.also}
    assert also == {"prompt": ["16.text"], "steps": ["10.steps"], "cfg": ["10.cfg"]}


def test_inpainting_has_a_strength_and_says_what_the_mask_is(schemas: NodeSchemas) -> None:
    nodes = text_to_image() | {
        "20": node("LoadImage", image="photo.png"),
        "21": node("VAEEncodeForInpaint", pixels=["20", 0], vae=["4", 2], mask=["20", 1], grow_mask_by=6),
    }
    nodes["3"]["inputs"] |= {"latent_image": ["21", 0]}
    interface = found(nodes, schemas)
    assert {"image", "strength"} <= brief(interface).keys()
    assert not {"width", "height"} & brief(interface).keys()
    image = interface.parameter("image")
    assert image
    assert image.required
    assert "mask" in image.description


def test_a_file_that_comes_along_makes_an_image_optional(schemas: NodeSchemas) -> None:
    nodes = {
        "1": node("LoadImage", image="photo.png"),
        "2": node("LoadImageMask", image="m.png", channel="red"),
        "3": node(
            "ImageCompositeMasked", destination=["1", 0], source=["1", 0], mask=["2", 0], x=0, y=0, resize_source=False
        ),
        "4": node("SaveImage", images=["3", 0], filename_prefix="x"),
    }
    interface = found(nodes, schemas, has_file=lambda name: name == "photo.png")
    image, mask = interface.parameters
    assert (image.name, image.type.value, image.required, image.default) == ("image", "image", False, "photo.png")
    assert (mask.name, mask.type.value, mask.required) == ("mask", "mask", True)


def test_several_images_are_named_by_what_they_feed(schemas: NodeSchemas) -> None:
    nodes = {
        "1": node("LoadImage", image="a.png"),
        "2": node("LoadImage", "Load Image: Style", image="b.png"),
        "3": node("LoadImage", image="c.png"),
        "4": node("TextEncodeQwenImageEditPlus", clip=["9", 0], prompt="swap", image1=["1", 0], image2=["3", 0]),
        "5": node("ImageBlend", image1=["1", 0], image2=["2", 0], blend_factor=0.5, blend_mode="normal"),
        "6": node("SaveImage", images=["5", 0], filename_prefix="x"),
        "7": node(
            "KSampler",
            seed=1,
            steps=4,
            cfg=1,
            sampler_name="euler",
            scheduler="simple",
            denoise=1,
            model=["10", 0],
            positive=["4", 0],
            negative=["4", 0],
            latent_image=["8", 0],
        ),
        "8": node("EmptySD3LatentImage", width=64, height=64, batch_size=1),
        "9": node("CLIPLoader", clip_name="q", type="qwen_image"),
        "10": node("UNETLoader", unet_name="q", weight_dtype="default"),
        "11": node("VAEDecode", samples=["7", 0], vae=["12", 0]),
        "12": node("VAELoader", vae_name="v"),
        "13": node("PreviewImage", images=["11", 0]),
    }
    interface = found(nodes, schemas)
    assert [p.name for p in interface.parameters if p.type.is_file] == ["image1", "image2", "image2_3"]
    assert interface.parameters[0].name == "prompt"
    assert [o.name for o in interface.outputs] == ["image"]  # what is saved, not the preview


def test_value_nodes_with_a_title_are_parameters(schemas: NodeSchemas) -> None:
    """A workflow without a model: nothing but what its author titled can be meant."""
    interface = found(
        {
            "1": node("PrimitiveInt", "Blur radius", value=3),
            "2": node("PrimitiveInt", value=1),
            "3": node("LoadImage", image="x.png"),
            "4": node("ImageBlur", image=["3", 0], blur_radius=["1", 0], sigma=1.0),
            "5": node("PreviewImage", images=["4", 0]),
        },
        schemas,
    )
    assert brief(interface) == {"image": ("image", "3.image", "x.png"), "blur_radius": ("integer", "1.value", 3)}
    assert [(o.name, o.node) for o in interface.outputs] == [("image", "5")]


def test_our_markers(schemas: NodeSchemas) -> None:
    interface = found(
        {
            "1": node("AtelierInputText", name="caption", value="hi", multiline=True, description=" What it says. "),
            "2": node("AtelierInputInteger", name="Count", value=3, minimum=1, maximum=9, step=2, description=""),
            "3": node("AtelierInputNumber", name="sigma", value=1, minimum=0.1, maximum=5.0, step=0.1, description=""),
            "4": node("AtelierInputSwitch", name="invert", value=False, description=""),
            "5": node("AtelierInputChoice", name="mode", value="a", choices="a\n b \n\na\nc", description=""),
            "6": node("AtelierInputImage", name="image", image="x.png", required=False, description=""),
            "7": node("AtelierInputMask", name="mask", image="", channel="red", required=False, description=""),
            "8": node("AtelierInputFile", "My file", name="", path="", required=True, description=""),
            "9": node("AtelierInputText", "Footer", name="caption", value="", multiline=False, description=""),
            "20": node("AtelierOutputImage", images=["6", 0], name="result", description="The picture."),
            "21": node("AtelierOutputText", text=["1", 0], name="echo", description=""),
            "22": node("SaveImage", images=["6", 0], filename_prefix="not an output"),
        },
        schemas,
    )
    assert interface.source is Source.MARKERS
    listed = {p.name: p for p in interface.parameters}
    assert list(listed) == ["caption", "count", "sigma", "invert", "mode", "image", "mask", "file", "caption_footer"]
    assert (listed["caption"].multiline, listed["caption"].description) == (True, "What it says.")
    assert (listed["count"].minimum, listed["count"].maximum, listed["count"].step) == (1, 9, 2)
    assert listed["mode"].choices == ("a", "b", "c")
    assert [(listed[n].required, listed[n].default) for n in ("image", "mask", "file")] == [
        (False, "x.png"),
        (False, None),
        (True, None),
    ]
    assert [(o.name, o.type.value, o.node, o.description) for o in interface.outputs] == [
        ("result", "image", "20", "The picture."),
        ("echo", "text", "21", ""),
    ]


def test_comfyui_deploys_markers(schemas: NodeSchemas) -> None:
    interface = found(
        {
            "1": node(
                "ComfyUIDeployExternalText",
                input_id="positive prompt",
                default_value="a cat",
                display_name="Prompt",
                description="What to paint.",
            ),
            "2": node(
                "ComfyUIDeployExternalNumberSlider", input_id="sharpness", default_value=0.5, min_value=0, max_value=2
            ),
            "3": node("ComfyUIDeployExternalSeed", input_id="seed", default_value=-1, min_value=1, max_value=1000),
            "4": node("ComfyUIDeployExternalEnum", input_id="style", default_value="oil", options='["oil", "ink"]'),
            "5": node("ComfyUIDeployExternalImage", input_id="photo", default_value_url="https://example.com/x.png"),
            "6": node("ComfyUIDeployExternalImage", input_id="backdrop", default_value=["9", 0]),
            "7": node("ComfyUIDeployExternalBoolean", input_id="hd", default_value=True),
            "8": node(
                "ComfyUIDeployExternalLora", input_id="lora", default_lora_name="x.safetensors", lora_save_name=""
            ),
            "9": node("EmptyImage", width=8, height=8, batch_size=1, color=0),
            "10": node("ImageBatch", image1=["5", 0], image2=["6", 0]),
            "11": node("SaveImage", images=["10", 0], filename_prefix="x"),
        },
        schemas,
    )
    assert [(p.name, p.type.value, p.required, p.default) for p in interface.parameters] == [
        ("positive_prompt", "text", False, "a cat"),
        ("sharpness", "number", False, 0.5),
        ("seed", "integer", False, None),
        ("style", "choice", False, "oil"),
        ("photo", "image", True, None),
        ("backdrop", "image", False, None),
        ("hd", "boolean", False, True),
        ("lora", "text", False, "x.safetensors"),
    ]
    first, slider, seed, style, *_ = interface.parameters
    assert (first.title, first.description) == ("Prompt", "What to paint.")
    assert (slider.minimum, slider.maximum) == (0, 2)
    assert (seed.minimum, seed.maximum) == (1, 1000)
    assert style.choices == ("oil", "ink")
    assert [(o.name, o.node) for o in interface.outputs] == [("image", "11")]


WORKFLOW = {
    "version": 0.4,
    "last_node_id": 20,
    "last_link_id": 3,
    "nodes": [
        {"id": 9, "type": "SaveImage", "inputs": [{"name": "images", "type": "IMAGE", "link": 1}], "outputs": []},
        {
            "id": 10,
            "type": "aaaaaaaa-0000-4000-8000-000000000001",
            "inputs": [
                {"name": "text", "label": "What to paint", "type": "STRING", "widget": {"name": "text"}, "link": None}
            ],
            "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1]}],
            "properties": {"proxyWidgets": [["3", "seed"]]},
        },
        {
            "id": 11,
            "type": "PrimitiveNode",
            "inputs": [],
            "outputs": [{"name": "INT", "type": "INT", "links": [2]}],
            "widgets_values": [20, "fixed"],
            "title": "steps",
        },
    ],
    "links": [[1, 10, 0, 9, 0, "IMAGE"], [2, 11, 0, 10, 1, "INT"]],
    "definitions": {
        "subgraphs": [
            {
                "id": "aaaaaaaa-0000-4000-8000-000000000001",
                "name": "Paint",
                "nodes": [
                    {
                        "id": 6,
                        "type": "CLIPTextEncode",
                        "outputs": [],
                        "inputs": [
                            {"name": "clip", "type": "CLIP", "link": None},
                            {"name": "text", "type": "STRING", "widget": {"name": "text"}, "link": 5},
                        ],
                    },
                    {"id": 3, "type": "KSampler", "inputs": [], "outputs": []},
                ],
                "inputs": [{"id": "i0", "name": "text", "type": "STRING", "linkIds": [5]}],
                "outputs": [],
                "links": [
                    {"id": 5, "origin_id": -10, "origin_slot": 0, "target_id": 6, "target_slot": 1, "type": "STRING"}
                ],
            }
        ]
    },
}


def subgraph_prompt() -> dict[str, Any]:
    nodes = {f"10:{key}": value for key, value in text_to_image().items() if key != "9"}
    for inner in nodes.values():
        for name, value in inner["inputs"].items():
            if isinstance(value, list):
                inner["inputs"][name] = [f"10:{value[0]}", value[1]]
    return nodes | {"9": node("SaveImage", images=["10:8", 0], filename_prefix="x")}


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ([[10, "text"], [10, "seed"]], {"what_to_paint": "10:6.text", "seed": "10:3.seed"}),
        ([["10:3", "steps"], ["3", "cfg"]], {"steps": "10:3.steps", "cfg": "10:3.cfg"}),
        ([["aaaaaaaa-0000-4000-8000-000000000001:5", "width", {"height": 80}]], {"width": "10:5.width"}),
        ([["5", "width"], [77, "text"], ["5", "nothing"], ["5", "width"], "x", [], [5]], {"width": "10:5.width"}),
        (
            [["4", "ckpt_name"], ["3", "sampler_name"]],
            {"ckpt_name": "10:4.ckpt_name", "sampler_name": "10:3.sampler_name"},
        ),
        ([["3", "model"], ["9", "images"], ["5", "width"]], {"width": "10:5.width"}),  # wires have no value to set
    ],
)
def test_app_mode(inputs: list, expected: dict[str, str], schemas: NodeSchemas) -> None:
    workflow = WORKFLOW | {"extra": {"linearData": {"inputs": inputs, "outputs": [9]}}}
    interface = found(subgraph_prompt(), schemas, workflow)
    assert interface.source is Source.APP_MODE
    assert {p.name: ".".join(p.target) for p in interface.parameters} == expected
    assert [o.node for o in interface.outputs] == ["9"]


@pytest.mark.parametrize("data", [None, {}, [], {"inputs": [], "outputs": []}, {"inputs": 3, "outputs": "x"}])
def test_empty_app_mode_is_none(data: Any, schemas: NodeSchemas) -> None:
    interface = found(subgraph_prompt(), schemas, WORKFLOW | {"extra": {"linearData": data}})
    assert interface.source is Source.GRAPH
    assert interface.parameter("prompt")


def test_markers_come_before_app_mode(schemas: NodeSchemas) -> None:
    nodes = subgraph_prompt() | {"1": node("AtelierInputText", name="x", value="", multiline=False, description="")}
    workflow = WORKFLOW | {"extra": {"linearData": {"inputs": [["3", "cfg"]], "outputs": [9]}}}
    assert [p.name for p in found(nodes, schemas, workflow).parameters] == ["x"]
