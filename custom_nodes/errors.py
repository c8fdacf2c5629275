"""What our nodes refuse, in one line that says what to do."""

from __future__ import annotations

from ..catalogue import ChoiceError as NodeInputError

__all__ = ["NodeInputError", "RemoteError"]


class RemoteError(RuntimeError):
    """A remote model did not give a picture: names the service, what it said, and the remedy; never a key."""
