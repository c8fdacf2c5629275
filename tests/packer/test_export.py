"""The exported project: what is in it, that its model is the service's own, and that it serves."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import httpx
import pytest

from comfy_atelier.graph import Interface, Parameter, ParameterType
from comfy_atelier.graph.prompt import InputRef
from comfy_atelier.packer import Bundle, PackerError
from comfy_atelier.packer.export import export, plain_name
from comfy_atelier.packer.model_source import field_names, imports, model_source
from comfy_atelier.packer.wheel import running_wheel

TEXT = {
    "1": {
        "class_type": "AtelierInputText",
        "inputs": {"name": "words", "value": "hello", "multiline": False, "description": "What to say."},
    },
    "2": {"class_type": "AtelierOutputText", "inputs": {"text": ["1", 0], "name": "said", "description": ""}},
}


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    path = tmp_path / "my flow.json"
    path.write_text(json.dumps(TEXT))
    return Bundle.open(path)


def parameter(name: str, kind: ParameterType, **more) -> Parameter:
    return Parameter(name=name, type=kind, target=InputRef("1", name), **more)


EVERYTHING = Interface(
    parameters=(
        parameter(
            "prompt",
            ParameterType.TEXT,
            default='a "cat"\nand a dog\'s ball',
            title="It's",
            description="Say 'x' \\ y.",
        ),
        parameter("needed", ParameterType.TEXT, required=True),
        parameter("seed", ParameterType.INTEGER, default=7, minimum=0, maximum=2**64 - 1),
        parameter("lucky", ParameterType.INTEGER, minimum=0, maximum=10),
        parameter("cfg", ParameterType.NUMBER, default=1.5, minimum=0.0, maximum=30.0),
        parameter("on", ParameterType.BOOLEAN, default=True),
        parameter("sampler", ParameterType.CHOICE, default="euler", choices=("euler", "a, b", "it's", "ü")),
        parameter("many", ParameterType.CHOICE, default="model-1", choices=tuple(f"model-{n}" for n in range(60))),
        parameter("odd", ParameterType.CHOICE, default=1.5, choices=(1.5, 2.5)),
        parameter("image", ParameterType.IMAGE, required=True),
        parameter("mask", ParameterType.MASK, default="mask.png"),
        parameter("class", ParameterType.TEXT, default="x"),
        parameter("json", ParameterType.INTEGER, default=1),
        parameter("json_", ParameterType.INTEGER, default=2),
        parameter("_hidden", ParameterType.NUMBER, default=0.5),
        parameter("model_config", ParameterType.TEXT, default=""),
        parameter("größe", ParameterType.INTEGER, default=1),
        parameter("Field", ParameterType.INTEGER, default=1),
    )
)


def built(interface: Interface):
    typing, pydantic, ours = imports(interface)
    lines = [f"from typing import {', '.join(sorted(typing))}"] if typing else []
    lines += [f"from pydantic import {', '.join(sorted(pydantic))}"] if pydantic else []
    lines.append(f"from comfy_atelier.api import {', '.join(sorted(ours))}")
    space: dict = {"__name__": "generated"}
    source = "\n".join(lines) + "\n\n" + model_source(interface)
    exec(compile(source, "generated", "exec", dont_inherit=True), space)  # this file's future import is not its own
    return space["Inputs"]


def test_the_generated_model_is_the_service_s_own():
    from comfy_atelier.api.models import inputs_model

    generated, dynamic = built(EVERYTHING), inputs_model(EVERYTHING)
    assert json.dumps(generated.model_json_schema()) == json.dumps(dynamic.model_json_schema())
    assert list(generated.model_json_schema()["properties"]) == [p.name for p in EVERYTHING.parameters]
    assert generated(needed="x", image="y").model_dump(by_alias=True) == dynamic(needed="x", image="y").model_dump(
        by_alias=True
    )


def test_an_empty_interface_is_a_model_too():
    from comfy_atelier.api.models import inputs_model

    assert built(Interface()).model_json_schema() == inputs_model(Interface()).model_json_schema()


def test_attributes_are_distinct_and_names_of_python():
    names = field_names(EVERYTHING)
    assert len(set(names.values())) == len(names)
    assert all(name.isidentifier() for name in names.values())
    assert names["prompt"] == "prompt"
    assert names["class"] == "class_"


def test_what_is_in_it(bundle, tmp_path):
    report = export(bundle, tmp_path / "out")
    wheel = running_wheel().filename
    assert set(report.files) == {
        ".dockerignore",
        "Dockerfile",
        "README.md",
        "app.py",
        "compose.yaml",
        "my-flow.cpack.zip",
        "constraints.txt",
        "requirements.txt",
        f"wheels/{wheel}",
    }
    texts = {name: (report.folder / name).read_text() for name in report.files if not name.endswith((".zip", ".whl"))}
    assert not [name for name, text in texts.items() if "$title" in text or "${" in text]
    assert wheel in texts["requirements.txt"]
    dockerfile = texts["Dockerfile"].splitlines()
    users = [line for line in dockerfile if line.startswith("USER")]
    assert users == ["USER atelier"]
    assert ":" in dockerfile[0].split()[1]
    assert "latest" not in dockerfile[0]
    assert any(line.startswith("HEALTHCHECK") for line in dockerfile)
    assert Bundle.open(report.folder / "my-flow.cpack.zip").interface == bundle.interface


def test_twice_gives_the_same_bytes(bundle, tmp_path):
    first, second = export(bundle, tmp_path / "a"), export(bundle, tmp_path / "b")
    assert first.files == second.files
    for name in first.files:
        assert (first.folder / name).read_bytes() == (second.folder / name).read_bytes(), name


def test_a_folder_with_something_in_it_is_refused(bundle, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(PackerError, match="not empty"):
        export(bundle, out)
    assert [path.name for path in out.iterdir()] == ["mine.txt"]


def test_nothing_is_left_where_it_fails(bundle, tmp_path):
    with pytest.raises(PackerError, match="no wheel"):
        export(bundle, tmp_path / "out", wheel=tmp_path / "other-1.0.whl")
    assert not (tmp_path / "out").exists()


def test_plain_names():
    assert plain_name("my flow (2)") == "my-flow-2"
    assert plain_name("../../$(x)") == "x"
    assert plain_name("äöü") == "workflow"


def test_the_wheel_holds_what_setuptools_would_take(tmp_path):
    wheel = running_wheel()
    path = wheel.write(tmp_path)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert names[-1].endswith(".dist-info/RECORD")
        assert archive.read(names[-1]).decode().count("\n") == len(names)
    assert "comfy_atelier/__init__.py" in names
    assert "comfy_atelier/api/service.py" in names
    root = Path(__file__).parents[2]
    declared = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    for package in declared:
        folder = package.replace(".", "/")
        assert any(name.rpartition("/")[0] == folder for name in names), package
    assert "comfy_atelier/packer/templates/app.py.txt" in names
    assert not [name for name in names if "__pycache__" in name or name.startswith("comfy_atelier/tests")]


@pytest.mark.slow
def test_pip_installs_the_wheel(tmp_path):
    path = running_wheel().write(tmp_path)
    target = tmp_path / "site"
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--no-index",
        "-q",
        "--target",
        str(target),
        str(path),
    ]
    subprocess.run(command, check=True)
    found = subprocess.run(
        [sys.executable, "-c", "import comfy_atelier.packer.wheel as w; print(w.running_wheel().filename)"],
        env={"PYTHONPATH": str(target), "PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert found.stdout.strip() == path.name  # the installed package packs itself again


async def test_the_exported_module_serves(bundle, tmp_path, monkeypatch):
    from comfy_atelier.engines import Finished, Produced

    class Engine:
        name, concurrency = "fake", 1

        async def start(self):
            pass

        async def schemas(self):
            raise NotImplementedError

        async def healthy(self):
            return True

        async def run(self, prompt, *, files):
            (node,) = (key for key, node in prompt.nodes.items() if node.class_type == "PreviewAny")
            data = str(prompt.nodes[node].inputs["source"]).encode()
            yield Produced(node=node, output="text", index=0, media_type="text/plain; charset=utf-8", data=data)
            yield Finished()

        async def close(self):
            pass

    report = export(bundle, tmp_path / "out")
    monkeypatch.setenv("ATELIER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr("comfy_atelier.api.settings.config_file", lambda: tmp_path / "none.toml")
    spec = importlib.util.spec_from_file_location("exported_app", report.folder / "app.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "exported_app", module)
    spec.loader.exec_module(module)
    module.service._engine = Engine()
    async with module.app.router.lifespan_context(module.app):
        transport = httpx.ASGITransport(app=module.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            answer = await client.post("/generate", json={"words": "from outside"})
            assert answer.text == "from outside"
            assert (await client.post("/generate", json={"word": "x"})).status_code == 422
            schema = (await client.get("/openapi.json")).json()["components"]["schemas"]["Inputs"]
            assert schema["properties"]["words"]["description"] == "What to say."
