"""Write docs/reference/errors.md from the error classes: `python docs/make_errors.py`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from emberq.errors import EmberqError
from emberq.openwebui.sidecar.errors import OpenWebUIRefused, OpenWebUIUnavailable

__all__ = ["PAGE", "render"]

PAGE = Path(__file__).parent / "reference" / "errors.md"
#: They need a client of their own and have their own table.
_OPENWEBUI = (OpenWebUIUnavailable, OpenWebUIRefused)

_HEAD = """\
# Error codes

Codes are stable. emberq itself tries again after an error with a star. *HTTP* is the status with which the
API answers a request that meets the error. Written by `python docs/make_errors.py`.

"""
_TABLE = "| Code | HTTP | Meaning | Next step |\n|---|---|---|---|\n"
_AFTER = """
Of `emberq openwebui …`:

"""


def render() -> str:
    """Return the page."""
    own = [error for error in _with_a_code(EmberqError) if error.__module__.startswith("emberq.errors.")]
    # Errors without a better name come last.
    own.sort(key=lambda error: error.code == EmberqError.code)
    return _HEAD + _TABLE + _rows(own) + _AFTER + _TABLE + _rows(_OPENWEBUI)


def _with_a_code(error: type[EmberqError]) -> Iterator[type[EmberqError]]:
    """Yield the error and its subclasses that have a code of their own, in the order of the tree."""
    if "code" in vars(error) and error is not EmberqError:
        yield error
    for subclass in error.__subclasses__():
        yield from _with_a_code(subclass)


def _rows(errors: Iterable[type[EmberqError]]) -> str:
    return "".join(map(_row, errors))


def _row(error: type[EmberqError]) -> str:
    code = f"`{error.code}`{' *' if error.retryable else ''}"
    return f"| {code} | {error.status} | {error().message} | {error().hint} |\n"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
