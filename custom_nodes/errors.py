"""What our nodes refuse, in one line that says what to do."""

from __future__ import annotations

from ..catalogue import ChoiceError as NodeInputError

__all__ = ["NodeInputError"]
