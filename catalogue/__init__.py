"""The model catalogue: families, variants, files, licences; what a weights file is, by its header. Imports no room."""

from .catalogue import Catalogue, find_by_name, find_by_sha256, load
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
from .errors import CatalogueError, DataError, HeaderError, UnknownEntryError

__all__ = [
    "Catalogue",
    "CatalogueError",
    "Control",
    "DataError",
    "Family",
    "FileSet",
    "HeaderError",
    "Latent",
    "Licence",
    "Lora",
    "ModelFile",
    "Resolution",
    "Sampling",
    "UnknownEntryError",
    "Variant",
    "find_by_name",
    "find_by_sha256",
    "load",
]
