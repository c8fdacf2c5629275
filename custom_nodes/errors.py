"""What our nodes refuse, in one line that says what to do."""

from __future__ import annotations


class NodeInputError(ValueError):
    """An input that cannot work: names the file or value, what it is, what is wanted, and the remedy."""
