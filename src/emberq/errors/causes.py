"""The chain of errors behind an error."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["causes"]


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, then the one it was raised from or while handling, down to the first one."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
