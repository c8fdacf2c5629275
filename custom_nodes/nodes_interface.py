"""The markers that say which values of a workflow are its inputs and which results are its outputs.

In the editor they pass values through; ``graph/bind.py`` takes them out of a served prompt. Ids, widgets, their order
and the outputs are a contract with ``graph/markers.py``: a test compares ``graph/tables/atelier.json`` with a real
ComfyUI.
"""

# mypy: disable-error-code="import-not-found, misc, no-any-return"
# Type checkers have no ComfyUI at hand: neither its modules nor its base classes are known to them.

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from comfy_api.latest import io, ui

from .interface_values import among, choice_lines, within
from .schema import AnyCombo, node_schema

GROUP = "interface"
WIDEST = 2**53 - 1
"""The largest integer that JSON in a browser carries exactly."""


def _name(default: str) -> io.String.Input:
    return io.String.Input(
        "name", default=default, tooltip="What callers call it: letters, digits and _; every name once in a workflow."
    )


def _description() -> io.String.Input:
    return io.String.Input(
        "description", default="", tooltip="One sentence for callers: what it does and what values make sense."
    )


def _required() -> io.Boolean.Input:
    return io.Boolean.Input(
        "required", default=True, tooltip="Whether callers must send it. Where not, the file chosen here is used."
    )


def _image_files() -> list[str]:
    import folder_paths

    files = [path.name for path in Path(folder_paths.get_input_directory()).iterdir() if path.is_file()]
    return sorted(folder_paths.filter_files_content_types(files, ["image"]))


def _image() -> io.Combo.Input:
    return io.Combo.Input(
        "image",
        options=_image_files(),
        upload=io.UploadType.image,
        image_folder=io.FolderType.input,
        tooltip="The picture used in the editor, and by callers who send none where it is not required.",
    )


class AtelierInputText(io.ComfyNode):
    """A text that callers send."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="AtelierInputText",
            display_name="Input: Text",
            group=GROUP,
            description="A text that callers of the served workflow send. In the editor it passes its own text on.",
            aliases=("api input", "text parameter", "prompt input", "string input"),
            inputs=[
                _name("text"),
                io.String.Input(
                    "value", default="", multiline=True, tooltip="The text in the editor, and the default."
                ),
                io.Boolean.Input(
                    "multiline", default=False, tooltip="Whether callers get a text area instead of one line."
                ),
                _description(),
            ],
            outputs=[io.String.Output(tooltip="The text.")],
        )

    @classmethod
    def execute(cls, name: str, value: str, multiline: bool, description: str) -> io.NodeOutput:
        return io.NodeOutput(value)


class AtelierInputInteger(io.ComfyNode):
    """A whole number that callers send."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        def integer(name: str, default: int, tooltip: str, low: int = -WIDEST) -> io.Int.Input:
            return io.Int.Input(name, default=default, min=low, max=WIDEST, tooltip=tooltip)

        return node_schema(
            node_id="AtelierInputInteger",
            display_name="Input: Integer",
            group=GROUP,
            description="A whole number that callers of the served workflow send: a seed, steps, a width.",
            aliases=("api input", "number parameter", "seed input", "int input"),
            inputs=[
                _name("number"),
                integer("value", 0, "The number in the editor, and the default."),
                integer("minimum", 0, "The least that callers may send."),
                integer("maximum", 2**31 - 1, "The most that callers may send."),
                integer("step", 1, "How far apart the values are, for sliders and arrows.", 1),
                _description(),
            ],
            outputs=[io.Int.Output(tooltip="The number.")],
        )

    @classmethod
    def execute(cls, name: str, value: int, minimum: int, maximum: int, step: int, description: str) -> io.NodeOutput:
        within(name, value, minimum, maximum)
        return io.NodeOutput(value)


class AtelierInputNumber(io.ComfyNode):
    """A number with a fraction that callers send."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        def number(name: str, default: float, tooltip: str, low: float = -1e12) -> io.Float.Input:
            return io.Float.Input(name, default=default, min=low, max=1e12, step=0.01, tooltip=tooltip)

        return node_schema(
            node_id="AtelierInputNumber",
            display_name="Input: Number",
            group=GROUP,
            description="A number with a fraction that callers of the served workflow send: a strength, a guidance.",
            aliases=("api input", "float parameter", "float input", "slider input"),
            inputs=[
                _name("number"),
                number("value", 0.0, "The number in the editor, and the default."),
                number("minimum", 0.0, "The least that callers may send."),
                number("maximum", 100.0, "The most that callers may send."),
                number("step", 0.01, "How far apart the values are, for sliders and arrows.", 0.0),
                _description(),
            ],
            outputs=[io.Float.Output(tooltip="The number.")],
        )

    @classmethod
    def execute(
        cls, name: str, value: float, minimum: float, maximum: float, step: float, description: str
    ) -> io.NodeOutput:
        within(name, value, minimum, maximum)
        return io.NodeOutput(value)


class AtelierInputSwitch(io.ComfyNode):
    """A yes or no that callers send."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="AtelierInputSwitch",
            display_name="Input: Switch",
            group=GROUP,
            description="A yes or no that callers of the served workflow send.",
            aliases=("api input", "boolean parameter", "toggle input", "bool input"),
            inputs=[
                _name("switch"),
                io.Boolean.Input("value", default=False, tooltip="The value in the editor, and the default."),
                _description(),
            ],
            outputs=[io.Boolean.Output(tooltip="Yes or no.")],
        )

    @classmethod
    def execute(cls, name: str, value: bool, description: str) -> io.NodeOutput:
        return io.NodeOutput(value)


class AtelierInputChoice(io.ComfyNode):
    """One of several words that callers choose."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="AtelierInputChoice",
            display_name="Input: Choice",
            group=GROUP,
            description="One of several words that callers choose. Wire it to any drop-down widget.",
            aliases=("api input", "enum parameter", "combo input", "select input", "dropdown"),
            inputs=[
                _name("choice"),
                io.String.Input("value", default="", tooltip="The choice in the editor, and the default."),
                io.String.Input("choices", default="", multiline=True, tooltip="What callers may choose, one a line."),
                _description(),
            ],
            outputs=[AnyCombo.Output(tooltip="The choice; fits any drop-down widget.")],
        )

    @classmethod
    def execute(cls, name: str, value: str, choices: str, description: str) -> io.NodeOutput:
        among(name, value, choice_lines(choices))
        return io.NodeOutput(value)


class AtelierInputImage(io.ComfyNode):
    """A picture that callers send."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="AtelierInputImage",
            display_name="Input: Image",
            group=GROUP,
            description="A picture that callers of the served workflow send. In the editor it loads its own.",
            aliases=("api input", "image parameter", "load image", "upload"),
            inputs=[_name("image"), _image(), _required(), _description()],
            outputs=[
                io.Image.Output(tooltip="The picture."),
                io.Mask.Output(tooltip="Its transparency: 1 where the picture is transparent."),
            ],
        )

    @classmethod
    def execute(cls, name: str, image: str, required: bool, description: str) -> io.NodeOutput:
        import nodes

        return io.NodeOutput(*nodes.LoadImage().load_image(image))

    @classmethod
    def fingerprint_inputs(cls, name: str, image: str, required: bool, description: str) -> str:
        import nodes

        return nodes.LoadImage.IS_CHANGED(image)

    @classmethod
    def validate_inputs(cls, image: str | None = None) -> bool | str:
        import nodes

        return image is None or nodes.LoadImage.VALIDATE_INPUTS(image)  # a wired name is not known yet


class AtelierInputMask(io.ComfyNode):
    """A mask that callers send as a picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="AtelierInputMask",
            display_name="Input: Mask",
            group=GROUP,
            description="A mask that callers of the served workflow send as a picture. In the editor it loads its own.",
            aliases=("api input", "mask parameter", "load mask"),
            inputs=[
                _name("mask"),
                _image(),
                io.Combo.Input(
                    "channel",
                    options=["alpha", "red", "green", "blue"],
                    default="red",
                    tooltip="Which channel of the picture is the mask; of alpha, what is transparent is masked.",
                ),
                _required(),
                _description(),
            ],
            outputs=[io.Mask.Output(tooltip="The mask, 0 to 1.")],
        )

    @classmethod
    def execute(cls, name: str, image: str, channel: str, required: bool, description: str) -> io.NodeOutput:
        import nodes

        loader = nodes.LoadImageMask()
        load = loader.load_image_mask if hasattr(loader, "load_image_mask") else loader.load_image
        return io.NodeOutput(*load(image, channel))

    @classmethod
    def fingerprint_inputs(cls, name: str, image: str, channel: str, required: bool, description: str) -> str:
        import nodes

        return nodes.LoadImageMask.IS_CHANGED(image, channel)

    @classmethod
    def validate_inputs(cls, image: str | None = None) -> bool | str:
        import nodes

        return image is None or nodes.LoadImage.VALIDATE_INPUTS(image)  # a wired name is not known yet


class AtelierInputFile(io.ComfyNode):
    """Any file that callers send; the workflow gets its path."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="AtelierInputFile",
            display_name="Input: File",
            group=GROUP,
            description="A file that callers of the served workflow send; what is wired to it gets the file's path.",
            aliases=("api input", "file parameter", "path input", "upload"),
            inputs=[
                _name("file"),
                io.String.Input("path", default="", tooltip="The file's path in the editor, and the default."),
                _required(),
                _description(),
            ],
            outputs=[io.String.Output(tooltip="The file's path.")],
        )

    @classmethod
    def execute(cls, name: str, path: str, required: bool, description: str) -> io.NodeOutput:
        return io.NodeOutput(path)


def _output_schema(kind: str, display_name: str, wired: Any, description: str) -> io.Schema:
    return node_schema(
        node_id=f"AtelierOutput{kind}",
        display_name=display_name,
        group=GROUP,
        description=description,
        aliases=("api output", "result", f"return {kind.lower()}", "save"),
        inputs=[wired, _name(kind.lower()), _description()],
        outputs=[],
        is_output_node=True,
    )


class AtelierOutputImage(io.ComfyNode):
    """Pictures that callers get."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return _output_schema(
            "Image",
            "Output: Image",
            io.Image.Input("images", tooltip="The pictures that callers get."),
            "Pictures that callers of the served workflow get. In the editor it shows them.",
        )

    @classmethod
    def execute(cls, images: Any, name: str, description: str) -> io.NodeOutput:
        return io.NodeOutput(ui=ui.PreviewImage(images, cls=cls))


class AtelierOutputVideo(io.ComfyNode):
    """A video that callers get."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return _output_schema(
            "Video",
            "Output: Video",
            io.Video.Input("video", tooltip="The video that callers get."),
            "A video that callers of the served workflow get. In the editor it shows it.",
        )

    @classmethod
    def execute(cls, video: Any, name: str, description: str) -> io.NodeOutput:
        import folder_paths

        file, folder = f"atelier_{uuid.uuid4().hex}.mp4", Path(folder_paths.get_temp_directory())
        folder.mkdir(parents=True, exist_ok=True)
        video.save_to(str(folder / file))
        return io.NodeOutput(ui=ui.PreviewVideo([ui.SavedResult(file, "", io.FolderType.temp)]))


class AtelierOutputText(io.ComfyNode):
    """A text that callers get."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return _output_schema(
            "Text",
            "Output: Text",
            io.String.Input("text", force_input=True, tooltip="The text that callers get."),
            "A text that callers of the served workflow get. In the editor it shows it.",
        )

    @classmethod
    def execute(cls, text: str, name: str, description: str) -> io.NodeOutput:
        return io.NodeOutput(ui=ui.PreviewText(text))


class AtelierOutputFile(io.ComfyNode):
    """A file, by its path, that callers get."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return _output_schema(
            "File",
            "Output: File",
            io.String.Input("path", force_input=True, tooltip="The path of the file that callers get."),
            "A file that callers of the served workflow get, by its path. In the editor it shows the path.",
        )

    @classmethod
    def execute(cls, path: str, name: str, description: str) -> io.NodeOutput:
        return io.NodeOutput(ui=ui.PreviewText(path))


INTERFACE_NODES: list[type[io.ComfyNode]] = [
    AtelierInputText,
    AtelierInputInteger,
    AtelierInputNumber,
    AtelierInputSwitch,
    AtelierInputChoice,
    AtelierInputImage,
    AtelierInputMask,
    AtelierInputFile,
    AtelierOutputImage,
    AtelierOutputVideo,
    AtelierOutputText,
    AtelierOutputFile,
]
