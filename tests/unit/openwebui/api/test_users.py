from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emberq.errors import Unauthorized
from emberq.openwebui.api.users import user_of, verify_user

SECRET = "between us"
NOW = 1_800_000_000.0
CLAIMS = {
    "sub": "u1",
    "email": "a@b.c",
    "name": "Änne",
    "role": "user",
    "iss": "open-webui",
    "exp": NOW + 300,
}


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def sign(claims: Any, *, secret: str = SECRET, head: Any = None) -> str:
    parts = (head or {"alg": "HS256", "typ": "JWT"}, claims)
    text = ".".join(encode(json.dumps(part).encode()) for part in parts)
    return f"{text}.{encode(hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest())}"


def test_a_token_that_is_signed_and_fresh_says_who_the_user_is() -> None:
    assert verify_user(sign(CLAIMS), SECRET, now=NOW) == CLAIMS


FORGED = {
    "another secret": sign(CLAIMS, secret="guess"),
    "over": sign({**CLAIMS, "exp": NOW - 61}),
    "without an end": sign({key: value for key, value in CLAIMS.items() if key != "exp"}),
    "of another issuer": sign({**CLAIMS, "iss": "another"}),
    "without a user": sign({**CLAIMS, "sub": ""}),
    "another algorithm": sign(CLAIMS, head={"alg": "none"}),
    "not an object": sign([1]),
    "head is a list": sign(CLAIMS, head=[1]),
    "unsigned": sign(CLAIMS).rpartition(".")[0] + ".",
    "cut": sign(CLAIMS)[:-3],
    "one part": "abc",
    "not base64": "a.b.ä",
    "empty": "",
}


@pytest.mark.parametrize("token", FORGED.values(), ids=FORGED)
def test_any_other_token_is_refused_without_being_repeated(token: str) -> None:
    with pytest.raises(Unauthorized) as refused:
        verify_user(token, SECRET, now=NOW)
    assert not token or token not in f"{refused.value.message}{refused.value.hint}"


def test_the_clocks_of_two_machines_may_differ_by_a_minute() -> None:
    assert verify_user(sign({**CLAIMS, "exp": NOW - 59}), SECRET, now=NOW)


@given(st.integers(0, 400), st.integers(1, 255))
def test_a_token_with_one_byte_changed_is_refused(place: int, change: int) -> None:
    token = bytearray(sign(CLAIMS).encode())
    place %= len(token)
    token[place] ^= change
    changed = token.decode("latin-1")
    # The last character of a base64 text has bits that mean nothing.
    if place == len(token) - 1:
        return
    with pytest.raises(Unauthorized):
        verify_user(changed, SECRET, now=NOW)


def test_plain_headers_are_believed_only_where_nothing_is_signed() -> None:
    headers = {
        "x-openwebui-user-id": "u1",
        "x-openwebui-user-name": "J%C3%B6rg",
        "x-openwebui-user-email": "j@x",
        "x-openwebui-user-role": "admin\0",
    }
    assert user_of(headers, None) == {"id": "u1", "name": "Jörg", "email": "j@x", "role": "admin"}
    assert user_of(headers, SECRET) == {}
    assert user_of({}, None) == {}
