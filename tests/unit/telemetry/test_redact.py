from __future__ import annotations

import string
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emberq.telemetry.redact import redact, redact_text

SECRET = "hunter2-tr0ub4dor"


@pytest.mark.parametrize(
    "text",
    [
        f"redis://user:{SECRET}@host:6379/0",
        f"cannot connect to postgresql+psycopg://app:{SECRET}@db/emberq?sslmode=require, giving up",
        f"rediss://:{SECRET}@host",
        f"redis://u:p@{SECRET}@host/0",
        f"Authorization: Bearer {SECRET}",
        f"host=db user=app password={SECRET} dbname=emberq",
        f"{{'rag_embedding_api_key': '{SECRET}', 'k': 5}}",
        f'{{"openai_api_key": "{SECRET}"}}',
        f"GET /search?api_key={SECRET}&k=5",
        f"key eq_{SECRET}0123456789 was used",
        f"Incorrect API key provided: sk-{SECRET}0123456789",
    ],
)
def test_secrets_in_texts_are_hidden(text: str) -> None:
    hidden = redact_text(text)
    assert SECRET not in hidden
    assert "***" in hidden


@pytest.mark.parametrize(
    "text",
    [
        "http://host:8040/path",
        "mail from a@b.example at 10:20",
        "tokens: 512",
        "3 of 10 pages",
        "file: report.pdf",
    ],
)
def test_texts_without_secrets_are_left_as_they_are(text: str) -> None:
    assert redact_text(text) == text


@pytest.mark.parametrize(
    "name", ["password", "api_key", "rag_embedding_api_key", "apiKey", "token", "Authorization", "secret_key"]
)
def test_secret_fields_are_hidden_however_deep(name: str) -> None:
    fields = {"outer": [{"inner": {name: SECRET}}], name: SECRET, f"my_{name}": 12345}
    assert SECRET not in str(redact(fields))
    assert "12345" not in str(redact(fields))


def test_objects_are_written_without_what_their_text_gives_away() -> None:
    class Settings:
        def __repr__(self) -> str:
            return f"Settings(redis_url='redis://u:{SECRET}@h/0', password='{SECRET}')"

    hidden = redact(
        {"settings": Settings(), "args": (Settings(),), "raw": SECRET.join(["password=", ""]).encode()}
    )
    assert SECRET not in str(hidden)


def test_what_is_no_secret_keeps_its_value() -> None:
    one = uuid.uuid4()
    fields = {
        "job": one,
        "path": Path("/tmp/x"),
        "n": 3,
        "ok": True,
        "none": None,
        "ratio": 0.5,
        "list": [1, 2],
    }
    assert redact(fields) == {**fields, "job": str(one), "path": "/tmp/x"}


@given(st.text(string.ascii_letters + string.digits + "!$%^*()_-+=.,@", min_size=6, max_size=30))
def test_no_password_of_a_url_gets_through(password: str) -> None:
    text = redact_text(f"redis://worker:{password}@server.example:6379/0")
    assert text.endswith("@server.example:6379/0")
    assert f":{password}@" not in text
