"""What must hold for any bytes: the targets of the fuzzers and of the tests in this folder."""

from __future__ import annotations

import io
import json
import unicodedata
from collections.abc import Callable
from datetime import UTC
from typing import Final

from pydantic import ValidationError

from emberq.api.schemas import SearchIn, decode_cursor
from emberq.api.types import parse_json
from emberq.errors import FileError, InvalidRequest
from emberq.pipeline.document import Document
from emberq.pipeline.extract import media
from emberq.pipeline.extract.builder import DocumentBuilder
from emberq.pipeline.extract.detect import detect_stream
from emberq.pipeline.extract.mail import mail
from emberq.pipeline.extract.text import text

__all__ = ["PROPERTIES", "check_csv", "check_cursor", "check_detection", "check_filter", "check_mail"]

#: Names that pull the detection into different directions.
_NAMES: Final = ("a.csv", "a.md", "a.txt", "a.pdf", "a.\0", "")
_KNOWN: Final = frozenset(value for name, value in vars(media).items() if name.isupper())


def check_detection(data: bytes) -> None:
    """The type of a file is a known one, or the error says what is wrong with the file."""
    name = _NAMES[len(data) % len(_NAMES)]
    try:
        kind = detect_stream(io.BytesIO(data), name=name)
    except FileError as exc:
        assert exc.message
        return
    assert kind in _KNOWN


def check_mail(data: bytes) -> None:
    """A mail is read into a valid document, or the error says what is wrong with it."""
    attachments: list[str] = []

    def attach(content: bytes, name: str) -> Document | None:
        assert isinstance(content, bytes)
        attachments.append(name)
        return None

    build = DocumentBuilder(read_attachment=attach)
    try:
        pages = mail.read(io.BytesIO(data), build, _ignore)
    except FileError as exc:
        assert exc.message
        return
    assert pages >= 1
    _check_document(build.build(media.EML, page_count=pages))


def check_csv(data: bytes) -> None:
    """Any bytes are a table, or at least text."""
    build = DocumentBuilder()
    text.read_csv(io.BytesIO(data), build, _ignore)
    _check_document(build.build(media.CSV))


def check_cursor(data: bytes) -> None:
    """A cursor is a moment and an id that PostgreSQL takes, or the request is invalid."""
    try:
        position = decode_cursor(data.decode("latin-1"))
    except InvalidRequest as exc:
        assert "cursor" in exc.message
        return
    assert position is not None
    assert position[0].astimezone(UTC) == position[0]


def check_filter(data: bytes) -> None:
    """A filter is JSON that PostgreSQL takes, or the request is invalid."""
    try:
        search = SearchIn.model_validate({"query": "q", "filter": parse_json(data)})
    except (InvalidRequest, ValidationError):
        return
    written = json.dumps(search.filter, allow_nan=False, ensure_ascii=False)
    assert "\\u0000" not in written
    assert json.loads(written.encode()) == search.filter


def _ignore(_done: int, _total: int) -> None:
    return None


def _check_document(document: Document) -> None:
    assert unicodedata.is_normalized("NFC", document.text)
    assert "\0" not in document.text
    document.text.encode()
    end = 0
    for segment in document.segments:
        assert end <= segment.start < segment.end <= len(document.text)
        assert document.text[segment.start : segment.end].strip()
        end = segment.end


#: Each property by its name.
PROPERTIES: Final[dict[str, Callable[[bytes], None]]] = {
    "detection": check_detection,
    "mail": check_mail,
    "csv": check_csv,
    "cursor": check_cursor,
    "filter": check_filter,
}
