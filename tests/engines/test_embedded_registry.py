"""The table of node classes against the modules that declare them, and against ComfyUI 0.33.0's schemas."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys

import pytest

from comfy_atelier.engines.embedded import registry
from comfy_atelier.graph import NodeSchemas

pytest.importorskip("torch", reason="the embedded engine needs torch")

SCHEMAS = NodeSchemas.builtin(registry.SCHEMAS_OF)


@pytest.mark.parametrize("module", registry.MODULES)
def test_the_table_names_what_the_module_declares(module: str) -> None:
    group = importlib.import_module(f"comfy_atelier.engines.embedded.{module}").NODES
    assert tuple(sorted(group)) == registry.MODULES[module]


@pytest.mark.parametrize("class_type", registry.CLASSES)
def test_a_class_is_as_its_schema(class_type: str) -> None:
    node, schema = registry.load(class_type), SCHEMAS[class_type]
    assert node.output_node == schema.output_node
    assert node.input_is_list == schema.is_input_list
    assert node.list_outputs == {slot for slot, output in enumerate(schema.outputs) if output.is_list}
    assert node.lazy == {spec.name for spec in schema.inputs if spec.options.get("lazy")}
    assert bool(node.needs) == bool(node.lazy)
    parameters = dict(inspect.signature(node.function).parameters)
    taken = {name for name, each in parameters.items() if each.kind is not each.VAR_KEYWORD} - {"context"}
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())  # our nodes hand their wires on
    assert takes_any or {spec.name for spec in schema.inputs} <= taken
    optional = {spec.name for spec in schema.inputs if not spec.required}
    for name in optional if not takes_any else optional & taken:
        assert parameters[name].default is not inspect.Parameter.empty
    assert inspect.getdoc(node.function)


@pytest.mark.parametrize("class_type", registry.CLASSES)
def test_a_class_gives_as_many_outputs_as_its_schema(class_type: str) -> None:
    """A conditioning is a tuple itself: given alone, its first entry would be taken for the output."""
    told = str(inspect.signature(registry.load(class_type).function).return_annotation)
    assert told != "Conditioning"
    if told == "tuple[()]":
        assert not SCHEMAS[class_type].outputs
    elif told.startswith("tuple[") and not told.endswith("...]"):
        parts = re.sub(r"\[[^\[\]]*\]", "", re.sub(r"\[[^\[\]]*\]", "", told.removeprefix("tuple[")[:-1])).split(", ")
        assert len(parts) == len(SCHEMAS[class_type].outputs)


def test_text_runs_without_torch() -> None:
    script = (
        "import sys; from comfy_atelier.engines.embedded import registry, worker, executor\n"
        "[registry.load(name) for name in registry.CLASSES if not registry.needs_torch(name)]\n"
        "print('torch' in sys.modules, 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_the_worker_explains_itself() -> None:
    command = [sys.executable, "-m", "comfy_atelier.engines.embedded.worker", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "EmbeddedEngine" in done.stdout
    assert "ATELIER_CACHE_BYTES" in done.stdout
