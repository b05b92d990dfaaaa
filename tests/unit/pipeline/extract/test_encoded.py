"""Bytes that are written as text are left out; words that only look like them are kept."""

from __future__ import annotations

import base64
import random
import time
from email.message import EmailMessage
from pathlib import Path

import pytest

from emberq.errors.file_warnings import FileWarning, WarningCode
from emberq.pipeline.extract.builder import clean
from emberq.pipeline.extract.detect import detect
from emberq.pipeline.extract.encoded import drop_encoded
from emberq.pipeline.extract.read import extract

BASE64 = base64.b64encode(random.Random(16).randbytes(3000)).decode()
URL_SAFE = base64.urlsafe_b64encode(random.Random(17).randbytes(3000)).decode()


def wrapped(width: int, end: str = "\n") -> str:
    return end.join(BASE64[at : at + width] for at in range(0, len(BASE64), width))


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (f"before {BASE64} after", "before  after"),
        (f"before {URL_SAFE} after", "before  after"),
        (f"# Key\n\n{wrapped(76)}\n\nWords.", "# Key\n\n\n\nWords."),
        (f"-----BEGIN-----\n{wrapped(64)}\n-----END-----", "-----BEGIN-----\n\n-----END-----"),
        (f"a\r\n{wrapped(76, chr(13) + chr(10))}\r\nb", "a\r\n\r\nb"),
        (f"![A sketch](data:image/png;base64,{BASE64[:60]}) next", "![A sketch]() next"),
        (f"![A sketch](data:;base64,{BASE64[:60]})", "![A sketch]()"),
        ("url(data:image/svg+xml,%3Csvg%20xmlns%3D) next", "url() next"),
    ],
)
def test_data_uris_and_base64_are_left_out(text: str, kept: str) -> None:
    assert drop_encoded(text) == kept


@pytest.mark.parametrize(
    "text",
    [
        "https://example.org/" + "Some-long-Path/with_2words/" * 20,
        "https://example.org/?q=" + "a1B%20" * 100,
        "ACGT" * 200,
        "MKTAYIAKQRQISFVKSHFSRQ" * 20,
        "0123456789abcdef" * 40,
        "3.14159265358979323846" * 30,
        "Donaudampfschifffahrtsgesellschaft" * 12,
        "AccountServiceFactoryBean" * 12,
        "sha512-" + BASE64[:88],
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + BASE64[:31] + " a@example.org",
        "The data: image/png and base64, as text.",
        "東京支店の営業時間は九時からです。" * 40,
    ],
)
def test_words_that_are_long_are_kept(text: str) -> None:
    assert drop_encoded(text) == text


def mail() -> bytes:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "a@example.org", "b@example.org", "Pictures"
    message.set_content(f"<p>Words.</p><img src='data:image/png;base64,{BASE64}'><p>{BASE64}</p>", "html")
    return message.as_bytes()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.md", f"# Title\n\nWords.\n\n![a](data:image/png;base64,{BASE64})\n\n{wrapped(76)}\n".encode()),
        ("a.html", f"<!doctype html><p>Words.<img src='data:,{BASE64}'><pre>{wrapped(76)}</pre>".encode()),
        ("a.json", f'{{"text": "Words.", "picture": "{BASE64}"}}'.encode()),
        ("a.txt", f"Words.\n\n{BASE64}\n".encode()),
        ("a.csv", f"name,text,picture\na,Words.,{BASE64}\nb,c,d\n".encode()),
        ("a.eml", mail()),
    ],
)
def test_no_format_has_base64_in_its_text(tmp_path: Path, name: str, data: bytes) -> None:
    source = tmp_path / name
    source.write_bytes(data)

    text = extract(source, media_type=detect(source, name=name)).text

    assert "Words." in text
    assert not any(BASE64[at : at + 40] in text for at in range(0, len(BASE64) - 40, 40))


@pytest.mark.parametrize("name", ["a.md", "a.html"])
def test_pictures_inside_a_text_are_told(tmp_path: Path, name: str) -> None:
    picture = f"data:image/png;base64,{BASE64}"
    text = {
        "a.md": f"# Title\n\n![a]({picture}) and ![b]({picture}), but no `data:image/png;base64,`\n",
        "a.html": f"<!doctype html><p>Words.<img src='{picture}'><img src='{picture}'><img src='a.png'>",
    }
    source = tmp_path / name
    source.write_text(text[name], encoding="utf-8")

    document = extract(source, media_type=detect(source, name=name))

    assert document.warnings == (FileWarning(WarningCode.IMAGES_SKIPPED, 2),)


def test_words_are_free_of_characters_without_width() -> None:
    assert clean("Gabel\xadstap\u200bler, \ufeffHaft\u2060pflicht") == "Gabelstapler, Haftpflicht"
    # In Thai the zero-width space is the only border between words; the non-joiner is a letter's form.
    assert clean("ก\u200bข \u0645\u06cc\u200c\u062e") == "ก\u200bข \u0645\u06cc\u200c\u062e"


@pytest.mark.parametrize(
    "text",
    [
        ("a" * 59 + "=") * 30_000,
        ("a" * 61 + "\n") * 30_000,
        ("Ab1" * 30 + "\n") * 20_000,
        "data:a/b;" * 200_000,
        ("data:a/b;base64," + "a" * 39 + "\n") * 30_000,
    ],
)
def test_text_that_is_nearly_base64_is_searched_at_once(text: str) -> None:
    started = time.process_time()

    drop_encoded(text)

    assert time.process_time() - started < 5
