"""What can be wrong with a bundle: one base class, each child says which kind of wrong."""

from __future__ import annotations

from typing import Self


class PackerError(Exception):
    """A bundle cannot be read, written or restored; says what, where, and what to do.

    Attributes:
        message: what is wrong, one sentence.
        file: the bundle or file, where known.
        member: the member of the archive, where the fault is in one.
        path: the JSON path inside the member (``models[3].sha256``).
        remedy: what to do about it, one sentence.
    """

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        member: str | None = None,
        path: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.file = file
        self.member = member
        self.path = path
        self.remedy = remedy

    def at(self, **place: str | None) -> Self:
        """Add places that an outer caller knows; what is already known stays."""
        for name, value in place.items():
            if value is not None and getattr(self, name) is None:
                setattr(self, name, value)
        return self

    def __str__(self) -> str:
        places = [place for place in (self.file, self.member, self.path) if place]
        text = ": ".join([*places, self.message])
        return f"{text}; {self.remedy}" if self.remedy else text


class ArchiveError(PackerError):
    """The zip is broken or holds a member that must not be unpacked."""


class ManifestError(PackerError):
    """``snapshot.json`` or ``atelier.json`` is not what its format says."""


class UnknownVersion(ManifestError):
    """The manifest's format version is newer than this tool reads."""


class MissingFile(PackerError):
    """A file that the prompt reads (a model, an input) is not where it should be."""


class RestoreError(PackerError):
    """A bundle cannot be restored here."""


class FetchError(PackerError):
    """A file cannot be downloaded; what was got so far is kept, unless it proved wrong."""


class NotThere(FetchError):
    """The address leads to no file."""


class FetchCancelled(FetchError):
    """The caller stopped the download; what was got so far is kept."""
