"""What can go wrong in the catalogue room."""

from __future__ import annotations


class CatalogueError(Exception):
    """Base of every error of this room."""


class DataError(CatalogueError):
    """A data file of the catalogue is wrong: ``flux1.toml: variants[2] (flux1-dev): 'steps' must be an integer``."""


class UnknownEntryError(CatalogueError, KeyError):
    """No family, variant or file of that name."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class HeaderError(CatalogueError, ValueError):
    """A file is not readable as safetensors; the message names the file and what is wrong with it."""


class ChoiceError(CatalogueError, ValueError):
    """A file or value that cannot work: names it, what it is, what is wanted, and the remedy, in one line."""
