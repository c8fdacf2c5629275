"""The header of a safetensors file: names, dtypes and shapes of its tensors. No tensor is read, no library is needed.

Format (huggingface/safetensors, README): 8 bytes little-endian length N, N bytes of JSON, then the data. The JSON
maps a name to ``{"dtype", "shape", "data_offsets": [begin, end]}``, offsets counted from the end of the JSON;
``__metadata__`` maps strings.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .errors import HeaderError

MAX_HEADER_BYTES = 100_000_000
"""As the safetensors library: a longer header is refused before it is read."""

MAX_ELEMENTS = 2**48
"""More elements than any tensor of a model file has; keeps products of hostile shapes small."""

_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64,
    "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
PRECISIONS = {
    "F32": "fp32",
    "F16": "fp16",
    "BF16": "bf16",
    "F8_E4M3": "fp8_e4m3fn",
    "F8_E5M2": "fp8_e5m2",
    "I8": "int8",
}


@dataclass(frozen=True, kw_only=True)  # no slots: cached_property keeps its value in the instance's own dictionary
class Header:
    """Names and shapes of a file's tensors; ``bytes_by_dtype`` says how much of each dtype it has.

    With a ``prefix`` it is a view: only the tensors below it count, and they are named without it.
    """

    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, str]
    bytes_by_dtype: Mapping[str, int]
    prefix: str = ""

    @cached_property
    def text(self) -> str:
        """All names, each on a line of its own: searching one text is many times quicker than asking each name."""
        return "\n" + "\n".join(self.shapes) + "\n"

    def __contains__(self, name: str) -> bool:
        return self.prefix + name in self.shapes

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor; empty where there is none of that name."""
        return self.shapes.get(self.prefix + name, ())

    def size(self, name: str, axis: int) -> int:
        """One side of a tensor; 0 where the tensor or the axis is missing."""
        shape = self.shape(name)
        return shape[axis] if -len(shape) <= axis < len(shape) else 0

    def has_prefix(self, *prefixes: str) -> bool:
        """Whether any tensor's name starts so."""
        return any(f"\n{self.prefix}{prefix}" in self.text for prefix in prefixes)

    def has_part(self, *parts: str) -> bool:
        """Whether any tensor's name has one of these in it."""
        return any(part in self.text for part in parts)

    def first_ending(self, *endings: str) -> tuple[int, ...]:
        """The shape of the first tensor whose name ends so; empty where there is none."""
        for ending in endings:
            end = self.text.find(ending + "\n")
            if end >= 0:
                return self.shapes[self.text[self.text.rfind("\n", 0, end) + 1 : end + len(ending)]]
        return ()

    def below(self, prefix: str) -> Header:
        """A view of the tensors below a prefix; the same header for an empty one."""
        if not prefix:
            return self
        view = Header(
            shapes=self.shapes, metadata=self.metadata, bytes_by_dtype=self.bytes_by_dtype, prefix=self.prefix + prefix
        )
        view.__dict__["text"] = self.text  # what the view would make again
        return view

    @property
    def precision(self) -> str:
        """The dtype that most of the bytes have, as people call it; ``scaled`` where fp8 weights carry scales."""
        if not self.bytes_by_dtype:
            return "empty"
        most = max(self.bytes_by_dtype, key=lambda dtype: (self.bytes_by_dtype[dtype], dtype))
        name = PRECISIONS.get(most, most.lower())
        scaled = name.startswith("fp8") and self.has_part(".scale_weight\n", ".weight_scale\n", "scaled_fp8\n")
        return f"{name} scaled" if scaled else name


def read_header(path: Path) -> Header:
    """Read and check the header of a safetensors file.

    Raises:
        HeaderError: no file, no safetensors, a header that lies about sizes, or a file shorter than its header says.
    """
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            length = int.from_bytes(stream.read(8), "little")
            _check_length(path, length, size)
            text = stream.read(length)
    except OSError as error:
        raise HeaderError(f"{path}: cannot read: {error.strerror or error}") from error
    if len(text) != length or not text.startswith(b"{"):
        raise HeaderError(f"{path}: not a safetensors file: its header is not a JSON object")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HeaderError(f"{path}: not a safetensors file: its header is not JSON ({str(error)[:80]})") from error
    return _parsed(path, document, size - 8 - length)


def _check_length(path: Path, length: int, size: int) -> None:
    if size < 8:
        raise HeaderError(f"{path}: not a safetensors file: only {size} bytes long")
    if length > size - 8:
        said = f"its first 8 bytes announce a header of {length:,} bytes in a file of {size:,}"
        raise HeaderError(f"{path}: not a safetensors file, or cut short: {said}")
    if length > MAX_HEADER_BYTES:
        raise HeaderError(f"{path}: refused: a header of {length:,} bytes (at most {MAX_HEADER_BYTES:,})")


def _parsed(path: Path, document: Any, room: int) -> Header:
    metadata = document.pop("__metadata__", None) or {}
    shapes: dict[str, tuple[int, ...]] = {}
    amounts: dict[str, int] = {}
    furthest = 0
    name = ""
    try:
        for name, entry in document.items():
            dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
            elements = 1
            for side in shape:
                elements *= side
                if type(side) is not int or side < 0 or elements > MAX_ELEMENTS:
                    raise HeaderError(
                        f"{path}: tensor '{name[:200]}' has the impossible shape {str(list(shape))[:200]}"
                    )
            if begin < 0 or (elements * _BITS[dtype] + 7) // 8 != end - begin:
                raise HeaderError(
                    f"{path}: tensor '{name[:200]}': its place in the file does not fit its shape and dtype"
                )
            if end > furthest:
                furthest = end
            amounts[dtype] = amounts.get(dtype, 0) + end - begin
            shapes[name] = shape
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, HeaderError):
            raise
        raise HeaderError(f"{path}: tensor '{name[:200]}': its entry in the header is malformed") from error
    if furthest > room:
        raise HeaderError(
            f"{path}: cut short: {room:,} bytes of data, its header wants {furthest:,}; download it again"
        )
    texts = (
        {key: value for key, value in metadata.items() if isinstance(value, str)} if isinstance(metadata, dict) else {}
    )
    return Header(shapes=shapes, metadata=MappingProxyType(texts), bytes_by_dtype=amounts)
