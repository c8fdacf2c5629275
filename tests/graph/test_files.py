"""A prompt reads below the input folder and writes below the output folder, nowhere else."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from comfy_atelier.graph import InputRef, NodeSchemas, Prompt, PromptError, check_files, input_files
from comfy_atelier.graph.files import file_name_fault, plain_file_name, prefix_fault


@pytest.fixture(scope="module")
def schemas() -> NodeSchemas:
    return NodeSchemas.builtin()


def prompt_of(class_type: str, **inputs: object) -> Prompt:
    return Prompt.from_json({"7": {"class_type": class_type, "inputs": inputs}})


@pytest.mark.parametrize(
    "name",
    [
        "x.png",
        "sub/x.png",
        "x.png [input]",
        "clipspace/clipspace-mask-1.png [input]",
        "日本 語.png",
        ".hidden",
        "0_3 (3).png",
        "a..b.png",
        "x.png.",
        "..x",
    ],
)
def test_names_below_the_input_folder(name: str) -> None:
    assert file_name_fault(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "../x.png",
        "a/../../x.png",
        "a/../x.png",
        "/etc/passwd",
        "/dev/zero",
        "\\\\server\\x",
        "..\\x.png",
        "C:\\x",
        "C:x.png",
        "c:/x",
        "x.png [output]",
        "x.png [temp]",
        "x.png [OUTPUT]",
        "[output]",
        "[input]",
        "../x [input]",
        "",
        " ",
        ".",
        "..",
        "a/.",
        "a/",
        "a//b",
        "~/x",
        "~root/x",
        "x\0.png",
        "x\n.png",
        "nul",
        "CON.png",
        "a/aux",
        "com1.txt",
        "x.png:stream",
        "file:///etc/passwd",
        ".. /x",
        "...",
        ". ./x",
        "a" * 300 + ".png",
        "é" * 200,
        "a/" * 600 + "x",
        3,
        None,
        True,
        ["a.png"],
        {"a": 1},
    ],
)
def test_names_that_lead_elsewhere(name: object, schemas: NodeSchemas) -> None:
    assert file_name_fault(name)
    if name is not None and not (isinstance(name, list) and len(name) == 2):
        with pytest.raises(PromptError, match=r"node 7 \(LoadImage\), input 'image'"):
            check_files(prompt_of("LoadImage", image=name), schemas, only_input=True)


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "ComfyUI",
        "a/b",
        "video/ComfyUI",
        "%date:yyyy-MM-dd%/x",
        "%year%-%month%/%width%x%height%",
        ".ssh",
        "50% off",
        "a//b",
        "%Empty Latent Image.width%",
        "x/",
        3,
        None,
    ],
)
def test_prefixes_below_the_output_folder(prefix: object) -> None:
    assert prefix_fault(prefix) is None


@pytest.mark.parametrize(
    "prefix",
    [
        "../x",
        "a/../../x",
        "/tmp/x",
        "C:\\x",
        "C:x",
        "..\\x",
        "\\x",
        "%year%/../../x",
        "%width%/../x",
        "~/x",
        "a\0b",
        "a\nb",
        "..",
        "a/..",
        "%a%../x/..",
        "x" * 2000,
        "n" * 300,
        "nul",
        "%date:../..%/../x",
    ],
)
def test_prefixes_that_escape(prefix: str, schemas: NodeSchemas) -> None:
    assert prefix_fault(prefix)
    for class_type, name in (("SaveImage", "filename_prefix"), ("SaveLoRA", "prefix"), ("AnyPack", "filename_prefix")):
        with pytest.raises(PromptError, match=f"node 7 .*{name}"):
            check_files(prompt_of(class_type, **{name: prefix}), schemas)


def test_a_wired_text_is_judged_too(schemas: NodeSchemas) -> None:
    nodes = {
        "1": {"class_type": "PrimitiveString", "inputs": {"value": "../../x"}},
        "2": {"class_type": "SaveImage", "inputs": {"filename_prefix": ["1", 0]}},
        "3": {"class_type": "LoadImage", "inputs": {"image": ["1", 0]}},
    }
    for kept in ("2", "3"):
        with pytest.raises(PromptError, match=f"node {kept}"):
            check_files(Prompt.from_json({"1": nodes["1"], kept: nodes[kept]}), schemas)


def test_folders_of_data_sets(schemas: NodeSchemas) -> None:
    with pytest.raises(PromptError, match="folder"):
        check_files(prompt_of("LoadImageDataSetFromFolder", folder="../../secret"), schemas)


def test_lists_what_is_read(schemas: NodeSchemas) -> None:
    prompt = Prompt.from_json(
        {
            "1": {"class_type": "LoadImage", "inputs": {"image": "a/b.png [input]"}},
            "2": {"class_type": "LoadImageMask", "inputs": {"image": "m.png", "channel": "alpha"}},
            "3": {"class_type": "LoadAudio", "inputs": {"audio": "s.mp3"}},
            "4": {"class_type": "LoadVideo", "inputs": {"file": "v.mp4"}},
            "5": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "x.safetensors"}},
        }
    )
    found = input_files(prompt, schemas)
    assert [(file.ref, file.name, file.kind) for file in found] == [
        (InputRef("1", "image"), "a/b.png", "image"),
        (InputRef("2", "image"), "m.png", "mask"),
        (InputRef("3", "audio"), "s.mp3", "audio"),
        (InputRef("4", "file"), "v.mp4", "video"),
    ]
    with pytest.raises(PromptError, match="node 7"):
        input_files(prompt_of("LoadImage", image="../x"), schemas)


@given(st.text(alphabet=["/", ".", "\\", "a", " ", "~", ":", "%", "[", "]", "\0"], max_size=12))
@example("%:%")
@example("%C:x%")
def test_what_passes_stays_inside(name: str) -> None:
    """Whatever the system joins an accepted name to, it stays below that."""
    import ntpath
    import posixpath

    for fault, text in ((file_name_fault(name), plain_file_name(name)), (prefix_fault(name), name)):
        if fault is None and text:
            for system, root in ((posixpath, "/in"), (ntpath, "C:\\in")):
                joined = system.normpath(system.join(root, text))
                assert joined == root or joined.startswith(root + system.sep), (name, joined)


def test_the_servers_own_results_are_no_input_of_others(schemas: NodeSchemas) -> None:
    prompt = prompt_of("LoadImageOutput", image="a/x.png [output]")
    check_files(prompt, schemas)  # a workflow may hold it ...
    assert input_files(prompt, schemas) == ()
    with pytest.raises(PromptError, match="not in the input folder"):
        check_files(prompt, schemas, only_input=True)  # ... but no engine runs it
    with pytest.raises(PromptError, match="leads out"):
        check_files(prompt_of("LoadImageOutput", image="../x.png [output]"), schemas)


def test_painters_without_a_picture(schemas: NodeSchemas) -> None:
    check_files(prompt_of("Painter", mask=""), schemas, only_input=True)
    with pytest.raises(PromptError, match="names no file"):
        check_files(prompt_of("LoadImage", image=""), schemas)
