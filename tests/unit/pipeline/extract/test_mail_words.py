"""Every word of a mail, mailbox, web archive, calendar or item of Outlook is in its text."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from itertools import count

import pytest

from emberq.pipeline.extract.detect import detect_stream
from emberq.pipeline.extract.read import extract_stream
from tests.harness.outlook import OutlookItem, Value, make_msg, make_tnef


class _Words:
    """Gives words that stand nowhere else."""

    def __init__(self) -> None:
        self._numbers: Iterator[int] = count(1)
        self.given: list[str] = []

    def __call__(self, number: int = 1) -> str:
        new = [f"mot{next(self._numbers):05}é" for _ in range(number)]
        self.given += new
        return " ".join(new)


def _page(word: _Words) -> str:
    table = f"<table><tr><th>{word()}</th><td>{word()}</td></tr></table>"
    return (
        f"<html><body><h1>{word(3)}</h1><p>{word(5)}</p>{table}<ul><li>{word()}</li></ul><pre>{word()}</pre>"
    )


def _csv(word: _Words) -> bytes:
    return "".join(f"{word()},{word()}\n" for _ in range(3)).encode()


def _mail(word: _Words, *, transfer: str | None = None, depth: int = 2) -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = word(3)
    message["From"] = f"{word()} <a@example.org>"
    message["To"] = f"{word()} <b@example.org>, {word()} <c@example.org>"
    message["Cc"] = f"{word()} <d@example.org>"
    message.set_content(f"{word(5)}\n\n{word(5)}", cte=transfer)
    message.add_alternative(_page(word), subtype="html", cte=transfer)
    message.add_attachment(word(5).encode(), maintype="text", subtype="plain", filename=f"{word()}.txt")
    message.add_attachment(
        _csv(word), maintype="application", subtype="octet-stream", filename=f"{word()}.csv"
    )
    if depth > 1:
        message.add_attachment(_mail(word, depth=depth - 1))
    return message


def _mailbox(word: _Words) -> bytes:
    transfers = ("base64", "quoted-printable", "8bit", None)
    separator = b"From a@example.org Mon Mar  2 10:00:00 2026\n"
    return b"\n".join(separator + _mail(word, transfer=transfer).as_bytes() for transfer in transfers)


def _web_archive(word: _Words) -> bytes:
    parts = (
        b"--b\nContent-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: base64\n\n"
        + base64.encodebytes(_page(word).encode())
        for _ in range(2)
    )
    head = b"From: <Saved by Blink>\nMIME-Version: 1.0\nContent-Type: multipart/related; boundary=b\n\n"
    return head + b"".join(parts) + b"--b--\n"


def _calendar(word: _Words) -> bytes:
    events = "".join(
        f"BEGIN:VEVENT\nSUMMARY:{word(3)}\nLOCATION:{word()}\nDESCRIPTION:{word(5)}\\n{word(5)}\n"
        f'ORGANIZER;CN={word()}:mailto:a@b\nATTENDEE;CN="{word()}":mailto:c@d\nEND:VEVENT\n'
        for _ in range(5)
    )
    return f"BEGIN:VCALENDAR\n{events}END:VCALENDAR\n".encode()


def _item(word: _Words, depth: int = 2) -> OutlookItem:
    recipients: list[dict[int, Value]] = [{0xC15: kind, 0x3001: word()} for kind in (1, 2, 3)]
    attachments: list[dict[int, Value | OutlookItem]] = [
        {0x3707: f"{word()}.txt", 0x3701: word(5).encode()},
        {0x3707: f"{word()}.csv", 0x3701: _csv(word)},
    ]
    if depth > 1:
        attachments.append({0x3001: "inner", 0x3701: _item(word, depth - 1)})
    head: dict[int, Value] = {0x37: word(3), 0x42: word(), 0x3FDE: 65001}
    return OutlookItem({**head, 0x1013: _page(word).encode()}, recipients, attachments)


@pytest.mark.parametrize(
    "make",
    [
        lambda word: _mail(word).as_bytes(),
        _mailbox,
        _web_archive,
        _calendar,
        lambda word: make_msg(_item(word)),
        lambda word: make_tnef(_item(word)),
    ],
    ids=["eml", "mbox", "mhtml", "ics", "msg", "tnef"],
)
def test_no_word_is_lost(make: Callable[[_Words], bytes]) -> None:
    word = _Words()
    data = make(word)

    text = extract_stream(io.BytesIO(data), media_type=detect_stream(io.BytesIO(data))).text

    assert [given for given in word.given if given not in text] == []
