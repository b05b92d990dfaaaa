"""The one kind of text and the one kind of JSON that a request may contain, in whatever part of it."""

from __future__ import annotations

import json
import math
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field

from emberq.errors import InvalidRequest

#: Most levels of lists and objects inside each other.
MOST_DEPTH: Final = 32
#: Most bytes of a JSON value that is stored or compared: metadata, a filter, a setting.
MOST_JSON_BYTES: Final = 16 * 1024
#: Most characters of a text without a limit of its own: an id, a name, a parameter.
MOST_CHARACTERS: Final = 300
#: Most bytes of an external id: a path with its folders, as long as an index of PostgreSQL takes it.
MOST_ID_BYTES: Final = 2000
#: Levels that the body of a request adds to the value of a field.
_BODY_DEPTH: Final = 2


def check_text(text: str) -> str:
    """Return a text unchanged.

    Raises:
        ValueError: If it has a NUL or half of a surrogate pair, which neither PostgreSQL nor UTF-8 can hold.
    """
    if "\0" in text:
        raise ValueError("must not contain a NUL character")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("must be valid Unicode, without half of a surrogate pair") from None
    return text


def check_external_id(text: str) -> str:
    """Return an external id unchanged.

    Raises:
        ValueError: If it is no text, empty, or longer than `MOST_ID_BYTES`.
    """
    if not text:
        raise ValueError("must not be empty")
    if len(check_text(text).encode()) > MOST_ID_BYTES:
        raise ValueError(f"must have at most {MOST_ID_BYTES} bytes")
    return text


def check_json(value: Any, *, most_depth: int = MOST_DEPTH) -> Any:
    """Return a JSON value unchanged.

    Raises:
        ValueError: If a text in it is not valid, a number is not finite, or it is nested too deep; the
            message begins with the place, unless that is the value itself.
    """
    pending: list[tuple[Any, str, int]] = [(value, "", 1)]
    while pending:
        one, place, depth = pending.pop()
        try:
            if isinstance(one, str):
                check_text(one)
            elif isinstance(one, float | int):
                _check_finite(one)
            elif isinstance(one, dict | list):
                if depth > most_depth:
                    raise ValueError(f"must not be nested more than {MOST_DEPTH} levels deep")
                for key in one if isinstance(one, dict) else ():
                    check_text(key)
        except ValueError as exc:
            raise ValueError(f"{place}: {exc}" if place else str(exc)) from None
        if isinstance(one, dict):
            pending += [(inner, f"{place}.{key}" if place else key, depth + 1) for key, inner in one.items()]
        elif isinstance(one, list):
            pending += [(inner, place, depth + 1) for inner in one]
    return value


def _check_finite(number: float) -> None:
    try:
        is_finite = math.isfinite(number)
    except OverflowError:
        is_finite = False
    if not is_finite:
        raise ValueError("must be a finite number")


def check_small_json(value: Any) -> Any:
    """Return a JSON value unchanged, as `check_json`, if it also has at most `MOST_JSON_BYTES`.

    Raises:
        ValueError: If it is not valid or too long.
    """
    check_json(value)
    if len(json.dumps(value, ensure_ascii=False).encode()) + _digits(value) > MOST_JSON_BYTES:
        raise ValueError(
            f"must have at most {MOST_JSON_BYTES} bytes as JSON, all digits of its numbers counted"
        )
    return value


def _digits(value: Any) -> int:
    """Count the zeros that PostgreSQL writes for exponents: 1e308 comes back as a number of 309 digits."""
    pending, digits = [value], 0
    while pending:
        one = pending.pop()
        if isinstance(one, float) and one:
            digits += abs(math.frexp(one)[1]) * 3 // 10
        elif isinstance(one, dict | list):
            pending += one.values() if isinstance(one, dict) else one
    return digits


def parse_json(data: bytes | str, *, field: str = "") -> Any:
    """Return the value of a JSON text.

    Args:
        data: The text; bytes must be UTF-8.
        field: The name of the field that contains it; empty for the body of a request.

    Raises:
        InvalidRequest: If it is not JSON, repeats a key, or is refused by `check_json`; the message names
            the field.
    """
    try:
        text = data.decode() if isinstance(data, bytes) else data
        value = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique)
        return check_json(value, most_depth=MOST_DEPTH if field else MOST_DEPTH + _BODY_DEPTH)
    except RecursionError:
        reason = f"must not be nested more than {MOST_DEPTH} levels deep"
    except UnicodeDecodeError:
        reason = "must be UTF-8"
    except json.JSONDecodeError as exc:
        reason = f"is not valid JSON: {exc}"
    except ValueError as exc:
        reason = str(exc)
    what = f"{field}: {reason}" if field else f"The body {reason}" if " " in reason[:8] else reason
    raise InvalidRequest(what)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"must not contain {name}, which is no JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("must not repeat a key in an object")
    return found


#: A text of any length that a request may contain.
LongText = Annotated[str, AfterValidator(check_text)]
#: A text of a request that has no limit of its own.
Text = Annotated[str, Field(max_length=MOST_CHARACTERS), AfterValidator(check_text)]
#: A file's id that its uploader chose, or the source that it names.
ExternalId = Annotated[str, AfterValidator(check_external_id)]
#: A JSON object of a request that is stored or compared.
JsonObject = Annotated[dict[str, Any], AfterValidator(check_small_json)]
#: A JSON value of a request that is stored or compared.
JsonValue = Annotated[Any, AfterValidator(check_small_json)]
