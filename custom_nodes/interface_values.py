"""What a marker's value must satisfy, in the editor as in a served prompt."""

from __future__ import annotations


class MarkerError(ValueError):
    """A marker holds a value that its own bounds or choices forbid."""


def within(name: str, value: float, minimum: float, maximum: float) -> None:
    """Raise MarkerError, naming the marker, where ``value`` is outside [minimum, maximum] or the bounds are swapped."""
    if minimum > maximum:
        raise MarkerError(f"input '{name}': its minimum {minimum} is above its maximum {maximum}; swap them")
    if not minimum <= value <= maximum:
        raise MarkerError(
            f"input '{name}': {value} is not between {minimum} and {maximum}; change the value or the bounds"
        )


def choice_lines(text: str) -> tuple[str, ...]:
    """The choices of a multi-line widget: one a line, without blanks or repetitions."""
    return tuple(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))


def among(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise MarkerError where there are choices and ``value`` is none of them."""
    if choices and value not in choices:
        raise MarkerError(
            f"input '{name}': '{value}' is none of its choices ({', '.join(choices)}); add it, one a line"
        )
