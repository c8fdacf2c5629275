"""Bundles: manifest, models, environment, archive, restore, export of a service. Imports graph and catalogue.

Plain imports, as in graph: `pack`, `unpack` and `verify` live in modules of other names, so none hides another. Only
`export`, whose module bears its name, is bound by hand.
"""

from .archive import Archive
from .atelier import AtelierManifest
from .audit import Check, Finding, VerifyReport, verify
from .bundle import Bundle
from .errors import ArchiveError, ManifestError, MissingFile, PackerError, RestoreError, UnknownVersion
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
    "pack",
    "unpack",
    "verify",
    "write_text",
]
