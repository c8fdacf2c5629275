"""Bundles: manifest, models, environment, archive, restore, export of a service. Imports graph and catalogue.

Plain imports, as in graph: `pack`, `unpack` and `verify` live in modules of other names, so none hides another. The
name `export` is the function; its module of the same name is reached by `from comfy_atelier.packer.export import ...`.
"""

from .archive import Archive
from .atelier import AtelierManifest
from .audit import Check, Finding, VerifyReport, verify
from .bundle import Bundle
from .errors import (
    ArchiveError,
    FetchCancelled,
    FetchError,
    ManifestError,
    MissingFile,
    PackerError,
    RestoreError,
    UnknownVersion,
)
from .export import ExportReport, export
from .fetch import Fetched, Wanted, fetch_file
from .inputs import InputFile
from .manifest import Model, ModelSource, Snapshot
from .packing import PackReport, pack
from .restore import UnpackReport, unpack
from .staging import write_text

__all__ = [
    "Archive",
    "ArchiveError",
    "AtelierManifest",
    "Bundle",
    "Check",
    "ExportReport",
    "FetchCancelled",
    "FetchError",
    "Fetched",
    "Finding",
    "InputFile",
    "ManifestError",
    "MissingFile",
    "Model",
    "ModelSource",
    "PackReport",
    "PackerError",
    "RestoreError",
    "Snapshot",
    "UnknownVersion",
    "UnpackReport",
    "VerifyReport",
    "Wanted",
    "export",
    "fetch_file",
    "pack",
    "unpack",
    "verify",
    "write_text",
]
