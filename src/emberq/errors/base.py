"""The base class of all errors, the classes by their codes, and the chain of errors behind one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

__all__ = ["EmberqError", "all_errors", "causes", "error_for_code"]


class EmberqError(Exception):
    """Something went wrong."""

    #: Stable, machine-readable name (docs/reference/errors.md).
    code: ClassVar[str] = "internal_error"
    #: HTTP status the API answers with when a request meets this error.
    status: ClassVar[int] = 500
    #: Whether the same work may succeed when it is tried again.
    retryable: ClassVar[bool] = False
    #: Pause before the second attempt, in units of the setting job_retry_delay; doubles with each attempt.
    retry_pause: ClassVar[float] = 1.0
    #: What to do next, where the code that raises gives no hint.
    default_hint: ClassVar[str] = ""

    def __init__(self, message: str | None = None, *, hint: str | None = None, **context: Any) -> None:
        """Describe one failure.

        Args:
            message: What happened, as one sentence; the first line of the class docstring if left out.
            hint: What to do next; the class's `default_hint` if left out.
            context: Facts for logs and problem details (`file_id`, `job_id`, `stage`, …), never secrets.
        """
        self.message = message or (self.__doc__ or "").strip().splitlines()[0]
        self.hint = self.default_hint if hint is None else hint
        self.context = context
        super().__init__(self.message)

    def as_dict(self) -> dict[str, Any]:
        """Return `{code, message, hint}`, the form stored with a job and sent to clients."""
        return {"code": self.code, "message": self.message, "hint": self.hint}


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
    known = all_errors()
    return known.get(code, known[EmberqError.code])


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, then the one it was raised from or while handling, down to the first one."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
