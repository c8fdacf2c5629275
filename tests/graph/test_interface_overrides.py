"""--param, --hide and --rename, as pure functions with clear errors."""

import pytest

from comfy_atelier.graph import InputRef, InterfaceError, NodeSchemas, Prompt, apply_overrides, find_interface

NODES = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "x.png"}},
    "57:8": {
        "class_type": "ImageScale",
        "inputs": {"image": ["1", 0], "upscale_method": "area", "width": 64, "height": 64, "crop": "disabled"},
    },
    "3": {
        "class_type": "ResizeImageMaskNode",
        "inputs": {
            "input": ["57:8", 0],
            "resize_type": "scale by multiplier",
            "resize_type.multiplier": 2,
            "scale_method": "area",
        },
    },
    "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "x"}},
}


@pytest.fixture(scope="module")
def schemas() -> NodeSchemas:
    return NodeSchemas.builtin()


@pytest.fixture
def prompt() -> Prompt:
    return Prompt.from_json(NODES)


def test_a_parameter_more(prompt: Prompt, schemas: NodeSchemas) -> None:
    interface = find_interface(prompt, schemas)
    changed = apply_overrides(
        interface,
        params=["wide=57:8.width", "method=57:8.upscale_method", "times=3.resize_type.multiplier", "picture=1.image"],
        prompt=prompt,
        schemas=schemas,
    )
    assert [(p.name, p.type.value, p.target) for p in changed.parameters] == [
        ("picture", "image", InputRef("1", "image")),  # in the place of the one that was found
        ("wide", "integer", InputRef("57:8", "width")),
        ("method", "choice", InputRef("57:8", "upscale_method")),
        ("times", "number", InputRef("3", "resize_type.multiplier")),
    ]
    assert changed.parameters[2].choices == ("nearest-exact", "bilinear", "area", "bicubic", "lanczos")
    assert [p.name for p in interface.parameters] == ["image"]  # the one that was found stays as it was


def test_hide_and_rename(prompt: Prompt, schemas: NodeSchemas) -> None:
    interface = apply_overrides(
        find_interface(prompt, schemas), params=["w=57:8.width"], prompt=prompt, schemas=schemas
    )
    changed = apply_overrides(interface, hide=["w"], rename=["image=photo"])
    assert [p.name for p in changed.parameters] == ["photo"]
    assert [o.name for o in changed.outputs] == ["photo"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"params": ["x"]}, '"x" is no param; write it as NAME=NODE.WIDGET'),
        ({"params": ["=57:8.width"]}, "is no param"),
        ({"params": ["a b=57:8.width"]}, '"a b" is no identifier'),
        ({"params": ["x=57.width"]}, 'no node "57" is in the prompt'),
        ({"params": ["x=nine"]}, '"nine" names no node and widget'),
        ({"params": ["x=57:8.widht"]}, "node 57:8 (ImageScale): has no input \"widht\"; did you mean 'width'?"),
        ({"params": ["x=57:8.image"]}, "input 'image': is wired to node \"1\""),
        ({"hide": ["imago"]}, "no parameter or output is named \"imago\"; did you mean 'image'?"),
        ({"hide": ["image"]}, "parameter 'image' has no value of its own"),
        ({"rename": ["a"]}, "is no rename; write it as OLD=NEW"),
        ({"rename": ["zzz=b"]}, "known are image"),
        ({"rename": ["image=1x"]}, "is no identifier"),
        ({"params": ["x=57:8.width", "y=57:8.height"], "rename": []}, None),
        ({"params": ["a=57:8.width", "b=57:8.width", "a=57:8.height"]}, None),
    ],
)
def test_errors(change: dict, says: str | None, prompt: Prompt, schemas: NodeSchemas) -> None:
    interface = find_interface(prompt, schemas)
    if says is None:
        apply_overrides(interface, **change, prompt=prompt, schemas=schemas)
        return
    with pytest.raises(InterfaceError) as caught:
        apply_overrides(interface, **change, prompt=prompt, schemas=schemas)
    assert says in str(caught.value)


def test_two_of_one_name_are_refused(prompt: Prompt, schemas: NodeSchemas) -> None:
    interface = apply_overrides(
        find_interface(prompt, schemas), params=["w=57:8.width"], prompt=prompt, schemas=schemas
    )
    with pytest.raises(InterfaceError, match="two parameters are named 'w'"):
        apply_overrides(interface, rename=["image=w"])
