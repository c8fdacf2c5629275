"""Reading safetensors files: the header is checked, the tensors stay in the file until a run reads them.

Format: https://huggingface.co/docs/safetensors. Tensors are views of one read-only memory map; nothing may write to
them.
"""

from __future__ import annotations

import json
import mmap
import threading
import warnings
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..problems import NodeProblem
from .weights import Deferred, Weights

MAXIMUM_HEADER = 100_000_000  # bytes; the format's own limit
_WORTH_LETTING_GO = 256 * 1024  # bytes; a call to the system costs more than smaller tensors hold

_DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
# The files that are mapped, by the address where each begins: see `let_go`.
_maps: dict[int, weakref.ref[mmap.mmap]] = {}
_maps_lock = threading.Lock()
_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def read_weights(path: Path) -> Weights:
    """The tensors of a safetensors file, scaled fp8 undone when read.

    Raises:
        NodeProblem: the file is none, is cut off, or holds what this engine cannot read.
    """
    try:
        with path.open("rb") as file:
            start = file.read(8)
            size = path.stat().st_size
            header = _header(path.name, start, file.read(_length(path.name, start, size)))
            memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else None
    except OSError as error:
        raise NodeProblem(
            f"model {path.name!r} cannot be read: {error.strerror or error}", remedy="check its permissions"
        ) from error
    if memory is not None:
        _remember(memory)
    metadata = header.pop("__metadata__", None) or {}
    begin = 8 + int.from_bytes(start, "little")
    tensors: dict[str, torch.Tensor] = {}
    for name, entry in header.items():
        tensors[name] = _tensor(path.name, name, entry, memory, begin, size)
    _check_packing(path.name, metadata)
    weights = Weights(
        tensors, source=path.name, metadata={key: value for key, value in metadata.items() if isinstance(value, str)}
    )
    return _unscaled(weights)


def _address(memory: mmap.mmap) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.frombuffer(memory, dtype=torch.uint8, count=1).data_ptr()


def _remember(memory: mmap.mmap) -> None:
    address = _address(memory)
    with _maps_lock:
        for gone in [begin for begin, known in _maps.items() if known() is None]:
            del _maps[gone]
        _maps[address] = weakref.ref(memory)


def let_go(tensor: torch.Tensor) -> None:
    """Give back the memory that reading a tensor of a file took, once a copy of it is made.

    The tensor stays readable: its pages come from the system's file cache, or from the file, when it is read again.
    Does nothing for other tensors, and where the system cannot.
    """
    if tensor.nbytes < _WORTH_LETTING_GO or not hasattr(mmap, "MADV_DONTNEED") or tensor.device.type != "cpu":
        return
    address = tensor.data_ptr()
    with _maps_lock:
        found = [(begin, memory) for begin, known in _maps.items() if (memory := known()) is not None]
    for begin, memory in found:
        first, last = address - begin, address - begin + tensor.nbytes
        if first >= 0 and last <= len(memory):
            first = -(-first // mmap.PAGESIZE) * mmap.PAGESIZE  # neighbours share the outer pages
            last = last // mmap.PAGESIZE * mmap.PAGESIZE
            if last > first:
                memory.madvise(mmap.MADV_DONTNEED, first, last - first)
            return


def _length(name: str, start: bytes, size: int) -> int:
    """How long the header is."""
    if start.startswith(_PICKLES):
        raise NodeProblem(
            f"model {name!r} is a pickle, which could run any program; only safetensors files are read",
            remedy="fetch its .safetensors version, or convert it on a ComfyUI",
        )
    length = int.from_bytes(start, "little")
    if len(start) < 8 or length > MAXIMUM_HEADER or 8 + length > size:
        if start[:1] in (b"<", b"{") or start.startswith(b"version "):
            raise NodeProblem(
                f"model {name!r} is a text (a web page or a Git LFS pointer), not a model",
                remedy="fetch the file itself",
            )
        raise NodeProblem(f"model {name!r} is no safetensors file, or is cut off", remedy="fetch it again")
    return length


def _header(name: str, start: bytes, text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NodeProblem(f"model {name!r} has a broken header", remedy="fetch it again") from error
    if not isinstance(header, dict):
        raise NodeProblem(f"model {name!r} has a broken header", remedy="fetch it again")
    return header


def _tensor(file: str, name: str, entry: Any, memory: mmap.mmap | None, begin: int, size: int) -> torch.Tensor:
    try:
        kind, shape = entry["dtype"], [int(side) for side in entry["shape"]]
        start, end = (begin + int(place) for place in entry["data_offsets"])
    except (TypeError, KeyError, ValueError) as error:
        raise NodeProblem(f"model {file!r} has a broken header (tensor {name!r})", remedy="fetch it again") from error
    if kind not in _DTYPES:
        raise NodeProblem(
            f"model {file!r} has numbers of the kind {kind}, which the embedded engine cannot read",
            remedy="choose another version of it, or run it on a ComfyUI",
        )
    dtype = _DTYPES[kind]
    count = 1
    for side in shape:
        count *= side
    if min(shape, default=0) < 0 or start < begin or end - start != count * dtype.itemsize:
        raise NodeProblem(f"model {file!r} has a broken header (tensor {name!r})", remedy="fetch it again")
    if end > size:
        raise NodeProblem(
            f"model {file!r} is cut off: {size} bytes are there, {end} are needed", remedy="fetch it again"
        )
    if not count or memory is None:
        return torch.empty(shape, dtype=dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the memory is read-only: nothing writes to it
        if start % dtype.itemsize:  # the format allows it, torch does not
            return torch.frombuffer(bytearray(memory[start:end]), dtype=dtype).reshape(shape)
        return torch.frombuffer(memory, dtype=dtype, count=count, offset=start).reshape(shape)


def _unscaled(weights: Weights) -> Weights:
    """fp8 tensors with a scale beside them (``scale_weight``, or ``weight_scale``) as what they stand for."""
    deferred: dict[str, torch.Tensor | Deferred] = {}
    gone: list[str] = []
    for name in weights:
        if not name.endswith(".weight") or weights.dtype(name) not in (torch.float8_e4m3fn, torch.float8_e5m2):
            continue
        stem = name.removesuffix("weight")
        scale = next((stem + last for last in ("scale_weight", "weight_scale") if stem + last in weights), None)
        if scale is not None:
            deferred[name] = Deferred(
                shape=weights.shape(name), dtype=torch.bfloat16, make=_scaler(weights[name], weights[scale])
            )
    for name in weights:
        stem, _, last = name.rpartition(".")
        if last in ("scale_weight", "weight_scale", "scale_input", "input_scale", "comfy_quant") or (
            name == "scaled_fp8" or last == "scaled_fp8"
        ):
            _check_quantisation(weights, name, last)
            gone.append(name)
    return weights.without(gone).with_tensors(deferred) if gone or deferred else weights


def _check_packing(name: str, metadata: Mapping[str, Any]) -> None:
    """The same in the file's metadata, for all layers at once."""
    try:
        layers = json.loads(metadata.get("_quantization_metadata", "{}")).get("layers", {})
        kinds = {str(layer.get("format", "")) for layer in layers.values()}
    except (ValueError, AttributeError, TypeError):
        kinds = {"unknown"}
    for kind in sorted(kinds):
        if not kind.startswith("float8_"):
            raise _quantised(name, kind)


def _quantised(name: str, kind: str) -> NodeProblem:
    return NodeProblem(
        f"model {name!r} is quantised as {kind}, which the embedded engine cannot read",
        remedy="choose an fp16, bf16 or fp8 version, or run it on a ComfyUI",
    )


def _check_quantisation(weights: Weights, name: str, last: str) -> None:
    """``comfy_quant`` tells in JSON how a layer is quantised; what is not plain fp8 cannot be read here."""
    if last != "comfy_quant":
        return
    try:
        told = json.loads(bytes(weights[name].to(torch.uint8).tolist()))
        kind = told.get("format", "")
    except (ValueError, AttributeError):
        kind = "unknown"
    if not str(kind).startswith("float8_"):
        raise _quantised(weights.source, str(kind))


def _scaler(weight: torch.Tensor, scale: torch.Tensor) -> Any:
    def make() -> torch.Tensor:
        factor = scale.float()
        if factor.ndim == 1 and factor.numel() == weight.shape[0]:
            factor = factor.reshape(-1, *([1] * (weight.ndim - 1)))
        return weight.float() * factor

    return make
