"""What can go wrong inside the service: one base class; the HTTP edge turns each child into a problem
(`problems.py`)."""

from __future__ import annotations


class ServiceError(Exception):
    """The service cannot do what was asked.

    Attributes:
        message: what happened, one sentence.
        remedy: what to do about it, one sentence.
    """

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


class StoreError(ServiceError):
    """The job store cannot read or write; nothing was changed."""


class StoreFull(StoreError):
    """There is no space left where the job store or the artifacts live; nothing was changed."""


class IdempotencyConflict(ServiceError):
    """An idempotency key was used before, with other inputs."""


class QueueFull(ServiceError):
    """Too many jobs wait already."""


class ShuttingDown(ServiceError):
    """The service takes no more jobs because it is ending."""


class PortInUse(ServiceError):
    """The address to listen on is taken or not ours."""


class SettingsError(ServiceError):
    """A setting has a value that it cannot have."""


class ImageRefused(ServiceError):
    """A file is not a picture that the service takes: wrong kind, damaged, or too large.

    Attributes:
        reason: "unsupported", "damaged", "too-large" or "too-slow".
    """

    def __init__(self, message: str, *, reason: str, remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.reason = reason
