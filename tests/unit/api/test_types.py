"""The one kind of text and the one kind of JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from emberq.api.types import MOST_DEPTH, MOST_JSON_BYTES, check_json, check_small_json, check_text, parse_json
from emberq.errors import InvalidRequest


def nested(levels: int, kind: type = list) -> Any:
    value: Any = [] if kind is list else {}
    for _ in range(levels - 1):
        value = [value] if kind is list else {"a": value}
    return value


@pytest.mark.parametrize("text", ["", "plain", "Größe 😀 \u202e", "\U0010ffff", "\x01\x7f"])
def test_valid_text_is_left_as_it_is(text: str) -> None:
    assert check_text(text) == text


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "x\udfff"])
def test_text_that_cannot_be_stored_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must"):
        check_text(text)
    # Wherever it is in a JSON value, as a key too; the message names the place.
    for value in ({"a": {"b": [1, text]}}, {"a": {"b": {text: 1}}}):
        with pytest.raises(ValueError, match=r"^a\.b: must"):
            check_json(value)


@pytest.mark.parametrize("kind", [list, dict])
def test_depth_is_bounded(kind: type) -> None:
    assert check_json(nested(MOST_DEPTH, kind)) == nested(MOST_DEPTH, kind)
    with pytest.raises(ValueError, match="32 levels"):
        check_json(nested(MOST_DEPTH + 1, kind))
    for levels in (MOST_DEPTH + 1, 900, 100_000):
        with pytest.raises(InvalidRequest, match=r"metadata: .*32 levels"):
            parse_json("[" * levels + "]" * levels, field="metadata")


@pytest.mark.parametrize(
    "data",
    [
        b"NaN", b"[Infinity]", b"-Infinity", b"1e999", b'{"a": [-1e999]}', b"1" * 400, b"1" * 5000,
        b'{"a": 1, "a": 2}', b'"\\u0000"', b'"\\ud800"', b'"\xff"', b'"\xed\xa0\x80"', b"", b"{",
        b"\xef\xbb\xbf1", '"a"'.encode("utf-16"), b"1 2",
    ],
)  # fmt: skip
def test_what_is_no_json_or_no_value_of_ours_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest):
        parse_json(data)


def test_json_is_read_as_it_is() -> None:
    value = {"a": [1, -2.5, 1e308, True, None, "😀"], "b": {"c": {}}}
    assert parse_json(json.dumps(value).encode()) == value


def test_stored_json_is_bounded() -> None:
    room = MOST_JSON_BYTES - len('{"a": ""}')
    assert check_small_json({"a": "x" * room})
    for text in ("x" * (room + 1), "😀" * (room // 4 + 1)):
        with pytest.raises(ValueError, match="16384 bytes"):
            check_small_json({"a": text})


@pytest.mark.parametrize("number", [1e308, -1e308, 1e-300, 5e-324])
def test_the_digits_of_numbers_are_counted_as_postgresql_writes_them(number: float) -> None:
    """1e308 in metadata came back as 309 digits: 16 KiB of metadata made 600 KB of each answer."""
    assert check_small_json([number] * 40)
    with pytest.raises(ValueError, match="16384 bytes"):
        check_small_json({"a": [[number] * 1900]})
    assert check_small_json([0.0, 1.5, -2e3] * 300)
