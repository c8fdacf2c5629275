import sys

import pytest

from comfy_atelier.graph import NodeSchemas, Prompt, Workflow
from comfy_atelier.packer import PackerError
from comfy_atelier.packer.environment import comfyui_version, read_environment

COMMIT = "0123456789abcdef0123456789abcdef01234567"
BUILTIN = NodeSchemas.builtin()


def prompt(*classes):
    return Prompt.from_json({str(i): {"class_type": name, "inputs": {}} for i, name in enumerate(classes)})


def write(path, text=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def checkout(folder, url=None, commit=COMMIT):
    write(folder / ".git" / "HEAD", commit + "\n")
    write(folder / ".git" / "config", f'[remote "origin"]\n\turl = {url}\n' if url else "")
    write(folder / "__init__.py")
    return folder


@pytest.fixture(autouse=True)
def no_git(monkeypatch):
    """The made-up checkouts are none to git itself."""
    monkeypatch.setattr("shutil.which", lambda name: None)


@pytest.fixture
def comfyui(tmp_path):
    folder = checkout(tmp_path / "ComfyUI", "https://github.com/comfyanonymous/ComfyUI")
    write(folder / "comfyui_version.py", '# made\n__version__ = "0.33.0"\n')
    write(
        folder / "requirements.txt",
        "torch\nsafetensors>=0.4.2\n--extra-index-url x\n# x\naiohttp>=3\n",
    )
    packs = folder / "custom_nodes"
    git = checkout(packs / "ComfyUI-Thing", "git@github.com:example/ComfyUI-Thing.git")
    write(git / "nodes.py", 'NODE_CLASS_MAPPINGS = {"ThingNode": Thing, "Shared": Thing}')
    write(git / "requirements.txt", "Ruamel_YAML==0.18 ; python_version>'3'\n-r other.txt\n")
    registry = packs / "comfyui-other"
    write(registry / ".tracking")
    write(registry / "pyproject.toml", '[project]\nname = "comfyui-other"\nversion = "1.2.3"\n')
    write(registry / "sub" / "n.py", "NODES = {'OtherNode': 1, 'Shared': 2}")
    checkout(packs / "local-only", "/home/me/local-only")
    write(packs / "local-only" / "n.py", '"LocalNode"')
    write(packs / "single.py", '"SingleNode"')
    write(packs / "off.disabled" / "n.py", '"OffNode"')
    site = folder / ".venv" / "lib" / "python3.12" / "site-packages"
    for name, version in (
        ("torch", "2.6.0+cu124"),
        ("safetensors", "0.5"),
        ("ruamel.yaml", "0.18.6"),
        ("unneeded", "1.0"),
    ):
        write(
            site / f"{name}-{version}.dist-info" / "METADATA",
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        )
    return folder


def test_only_what_the_prompt_reaches(comfyui):
    found = read_environment(prompt("ThingNode", "KSampler", "AtelierInputText"), BUILTIN, comfyui_dir=comfyui)
    assert (found.comfyui_version, found.comfyui_commit, found.python) == ("0.33.0", COMMIT, "3.12")
    assert [(pack.url, pack.commit) for pack in found.git_node_packs] == [
        ("https://github.com/example/ComfyUI-Thing.git", COMMIT)
    ]
    assert found.registry_node_packs == ()
    assert [pip.spec for pip in found.pips] == ["ruamel.yaml==0.18.6", "safetensors==0.5", "torch==2.6.0+cu124"]
    assert found.notes == ()


def test_registry_packs_files_and_what_cannot_be_recorded(comfyui):
    found = read_environment(
        prompt("OtherNode", "LocalNode", "SingleNode", "OffNode", "Shared"), BUILTIN, comfyui_dir=comfyui
    )
    assert [(pack.id, pack.version) for pack in found.registry_node_packs] == [("comfyui-other", "1.2.3")]
    assert [pack.filename for pack in found.file_node_packs] == ["single.py"]
    assert found.git_node_packs == ()
    assert found.notes == (
        "no node pack with the class 'OffNode' was found: it is not recorded",
        "no node pack with the class 'Shared' was found: it is not recorded",
        "the node pack 'local-only' has no public https address: it is not recorded",
        "the node pack 'single.py' is a single file: a bundle names it, but does not carry it",
    )


def test_a_servers_schemas_say_which_pack(comfyui):
    schemas = NodeSchemas.from_object_info(
        {"Shared": {"input": {}, "output": [], "python_module": "custom_nodes.ComfyUI-Thing", "name": "Shared"}}
    )
    found = read_environment(prompt("Shared"), schemas, comfyui_dir=comfyui)
    assert [pack.folder for pack in found.git_node_packs] == ["ComfyUI-Thing"]


def test_everything(comfyui):
    found = read_environment(prompt("KSampler"), BUILTIN, comfyui_dir=comfyui, everything=True)
    assert len(found.git_node_packs) == len(found.registry_node_packs) == len(found.file_node_packs) == 1
    assert len(found.pips) == 4


def test_the_manager_is_named_for_comfy_packs_sake(comfyui):
    checkout(comfyui / "custom_nodes" / "ComfyUI-Manager", "https://github.com/ltdrdata/ComfyUI-Manager.git")
    found = read_environment(prompt("KSampler"), BUILTIN, comfyui_dir=comfyui)
    assert [pack.folder for pack in found.git_node_packs] == ["ComfyUI-Manager"]


def test_a_copy_without_git_or_python(comfyui):
    import shutil

    shutil.rmtree(comfyui / ".git")
    shutil.rmtree(comfyui / ".venv")
    found = read_environment(prompt("KSampler"), BUILTIN, comfyui_dir=comfyui)
    assert (found.comfyui_version, found.comfyui_commit) == ("0.33.0", None)
    assert len(found.notes) == 2


def test_another_python(comfyui, tmp_path):
    site = tmp_path / "venv" / "Lib" / "site-packages"
    write(site / "torch-2.0.dist-info" / "METADATA", "Metadata-Version: 2.1\nName: torch\nVersion: 2.0\n")
    write(tmp_path / "venv" / "pyvenv.cfg", "home = C:\\Python\nversion = 3.13.1\n")
    python = write(tmp_path / "venv" / "Scripts" / "python.exe")
    found = read_environment(prompt("KSampler"), BUILTIN, comfyui_dir=comfyui, comfyui_python=python)
    assert (found.python, [pip.spec for pip in found.pips]) == ("3.13", ["torch==2.0"])


def test_what_is_no_comfyui(tmp_path):
    with pytest.raises(PackerError, match="is no ComfyUI"):
        comfyui_version(tmp_path)
    write(tmp_path / "pyproject.toml", '[project]\nname = "ComfyUI"\nversion = "0.3.64"\n')
    assert comfyui_version(tmp_path) == "0.3.64"


def node(node_id, kind, **properties):
    return {"id": node_id, "type": kind, "pos": [0, 0], "inputs": [], "outputs": [], "properties": properties}


def test_without_a_comfyui_the_editors_notes_are_used():
    workflow = Workflow.from_json(
        {
            "nodes": [
                node(1, "ThingNode", cnr_id="comfyui-thing", ver="2.0.1"),
                node(2, "GitNode", aux_id="example/ComfyUI-Git", ver=COMMIT),
                node(3, "KSampler", cnr_id="comfy-core", ver="0.3.64"),
                node(4, "EvilNode", cnr_id="../x", ver="--help", aux_id="-x/y"),
                node(5, "Unused", cnr_id="unused", ver="1"),
            ],
            "links": [],
            "version": 0.4,
        }
    )
    found = read_environment(prompt("ThingNode", "GitNode", "KSampler", "EvilNode"), BUILTIN, workflow=workflow)
    assert [(pack.id, pack.version) for pack in found.registry_node_packs] == [("comfyui-thing", "2.0.1")]
    assert [(pack.url, pack.commit) for pack in found.git_node_packs] == [
        ("https://github.com/example/ComfyUI-Git", COMMIT)
    ]
    assert found.comfyui_version == BUILTIN.version
    assert found.python == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert found.notes == ("the node pack of the class 'EvilNode' is not known (--comfyui)",)
