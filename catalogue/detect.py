"""What a weights file is, by the header alone: kind, family, what it can be. Never by its name.

Remembered by path, size and time of change, so that a list of hundreds of files is read once.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from threading import Lock

from .detection import Detection
from .errors import HeaderError
from .header import Header, read_header
from .signatures_annotators import detect_annotator
from .signatures_control import detect_controlnet
from .signatures_lora import detect_lora
from .signatures_model import detect_diffusion_model
from .signatures_parts import detect_clip_vision, detect_small_model, detect_text_encoder, detect_vae

CACHED_FILES = 8192
"""How many files are remembered; the least recently asked for goes first."""

_cache: OrderedDict[tuple[str, int, int], Detection | HeaderError] = OrderedDict()
_lock = Lock()

_DETECTORS = (
    detect_lora,
    detect_controlnet,
    detect_annotator,
    detect_small_model,
    detect_diffusion_model,
    detect_clip_vision,
    detect_text_encoder,
    detect_vae,
)
"""Asked in this order: a LoRA or a ControlNet has names of the model it is for."""


def detect_header(header: Header) -> Detection:
    """What a header says; of kind ``unknown`` where no signature fits."""
    for detector in _DETECTORS:
        found = detector(header)
        if found is not None:
            return replace(found, precision=header.precision)
    return Detection(kind="unknown", precision=header.precision)


def detect(path: Path | str) -> Detection:
    """What the safetensors file at ``path`` is.

    Raises:
        HeaderError: not a safetensors file, a damaged one or one cut short; the message names the file.
    """
    path = Path(path)
    try:
        status = path.stat()
    except OSError as error:
        raise HeaderError(f"{path}: cannot read: {error.strerror or error}") from error
    key = (str(path.absolute()), status.st_size, status.st_mtime_ns)
    with _lock:
        known = _cache.get(key)
        if known is not None:
            _cache.move_to_end(key)
    if known is None:
        try:
            known = detect_header(read_header(path))
        except HeaderError as error:
            known = error
        with _lock:
            _cache[key] = known
            while len(_cache) > CACHED_FILES:
                _cache.popitem(last=False)
    if isinstance(known, HeaderError):
        raise HeaderError(str(known))
    return known


def forget() -> None:
    """Empty the memory of files already looked at."""
    with _lock:
        _cache.clear()
