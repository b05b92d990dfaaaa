"""The error classes by their codes."""

from __future__ import annotations

from emberq.errors.base import EmberqError
from emberq.errors.internal import InternalError

__all__ = ["all_errors", "error_for_code"]


def all_errors() -> dict[str, type[EmberqError]]:
    """Return every concrete error class by its code."""
    found: dict[str, type[EmberqError]] = {}
    pending: list[type[EmberqError]] = [EmberqError]
    while pending:
        cls = pending.pop()
        pending.extend(cls.__subclasses__())
        if "code" in vars(cls) and cls is not EmberqError:
            found[cls.code] = cls
    return found


def error_for_code(code: str) -> type[EmberqError]:
    """Return the error class of a code; `InternalError` if the code is unknown."""
    return all_errors().get(code, InternalError)
