"""The model catalogue: families, variants, files, licences; what a weights file is, by its header. Imports no room."""

from .catalogue import Catalogue, find_by_name, find_by_sha256, load
from .detect import detect, detect_header
from .detection import Detection
from .entries import (
    Control,
    Family,
    FileSet,
    Latent,
    Licence,
    Lora,
    ModelFile,
    Resolution,
    Sampling,
    Variant,
)
from .errors import CatalogueError, ChoiceError, DataError, HeaderError, UnknownEntryError
from .header import Header, read_header

__all__ = [
    "Catalogue",
    "CatalogueError",
    "ChoiceError",
    "Control",
    "DataError",
    "Detection",
    "Family",
    "FileSet",
    "Header",
    "HeaderError",
    "Latent",
    "Licence",
    "Lora",
    "ModelFile",
    "Resolution",
    "Sampling",
    "UnknownEntryError",
    "Variant",
    "detect",
    "detect_header",
    "find_by_name",
    "find_by_sha256",
    "load",
    "read_header",
]
