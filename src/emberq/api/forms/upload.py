"""Streamed multipart uploads: the file goes to disk as it arrives, never into memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import anyio.to_thread
from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from emberq.api.forms.disposition import part_names
from emberq.api.streams import body_chunks
from emberq.api.types import check_text
from emberq.errors import EmberqError, FileTooLarge, InvalidRequest, RequestTooLarge
from emberq.store.files.blobs import BlobWriter

#: Most bytes of a form field that is not the file.
_MAX_FIELD_BYTES: Final = 64 * 1024
#: Most bytes of a request besides the file.
_FORM_BYTES: Final = 10 * _MAX_FIELD_BYTES
#: Bytes that a part counts for beyond its headers and its text.
_PART_BYTES: Final = 256


class Upload:
    """The content of a multipart request.

    Attributes:
        fields: The form's text fields; the last value of a repeated field.
        lists: All values of each text field.
        file_name: The name of the uploaded file; None if there was no such part.
        is_complete: Whether the end of the multipart body was reached.
    """

    def __init__(self, writer: BlobWriter, max_bytes: int, part: str) -> None:
        """Write the part with the name `part` into a blob writer, up to `max_bytes`."""
        self.fields: dict[str, str] = {}
        self.lists: dict[str, list[str]] = {}
        self.file_name: str | None = None
        self._writer = writer
        self._max_bytes = max_bytes
        self._part = part
        self._form_bytes = 0
        self._headers: dict[bytes, bytes] = {}
        self._header = (bytearray(), bytearray())
        self._field: str | None = None
        self._value = bytearray()
        self._is_file = False
        self.is_complete = False

    def callbacks(self) -> dict[str, Callable[..., None]]:
        """Return the parser's callbacks."""
        return {
            "on_part_begin": self._begin,
            "on_header_begin": self._begin_header,
            "on_header_field": lambda data, start, end: self._extend(self._header[0], data, start, end),
            "on_header_value": lambda data, start, end: self._extend(self._header[1], data, start, end),
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _extend(self, kept: bytearray, data: bytes, start: int, end: int) -> None:
        """Keep bytes that are not the file's in memory, as many as a form may have."""
        self._form_bytes += end - start
        if self._form_bytes > _FORM_BYTES:
            raise RequestTooLarge(f"The form has more than {_FORM_BYTES} bytes besides the file.")
        kept += data[start:end]

    def _begin(self) -> None:
        # Each part costs, even an empty one.
        self._extend(bytearray(), b"", 0, _PART_BYTES)
        self._headers = {}
        self._value = bytearray()

    def _begin_header(self) -> None:
        self._header = (bytearray(), bytearray())

    def _end_header(self) -> None:
        self._headers[bytes(self._header[0]).lower()] = bytes(self._header[1])

    def _end_headers(self) -> None:
        names = part_names(self._headers.get(b"content-disposition", b""))
        self._field = _text(names.get("name", b""), "a part's name")
        self._is_file = self._field == self._part and "filename" in names
        if self._is_file:
            if self.file_name is not None:
                raise InvalidRequest("The form has more than one file.", hint="Send one request per file.")
            # A browser that uploads a folder sends paths.
            self.file_name = _text(names["filename"], "filename").rsplit("/", 1)[-1] or "unnamed"

    def _data(self, data: bytes, start: int, end: int) -> None:
        if not self._is_file:
            self._extend(self._value, data, start, end)
            if len(self._value) > _MAX_FIELD_BYTES:
                raise InvalidRequest(
                    f"The form field {self._field!r} is longer than {_MAX_FIELD_BYTES} bytes."
                )
            return
        if self._writer.size + end - start > self._max_bytes:
            raise FileTooLarge(f"The file is larger than {self._max_bytes} bytes (max_file_size).")
        self._writer.write(data[start:end])

    def _end(self) -> None:
        if not self._is_file and self._field:
            value = _text(self._value, self._field)
            self.fields[self._field] = value
            self.lists.setdefault(self._field, []).append(value)

    def _finish(self) -> None:
        self.is_complete = True


def _text(data: bytes | bytearray, field: str) -> str:
    try:
        return check_text(data.decode())
    except UnicodeDecodeError as exc:
        raise InvalidRequest(f"{field}: must be UTF-8.") from exc
    except ValueError as exc:
        raise InvalidRequest(f"{field}: {exc}.") from exc


async def receive_upload(
    request: Request, writer: BlobWriter, *, max_bytes: int, part: str = "file"
) -> Upload:
    """Read a multipart request, and write its file into a blob writer.

    Args:
        request: A request with one file and perhaps text fields.
        writer: Takes the file's bytes; it is not committed here.
        max_bytes: Longest file, in bytes.
        part: The name of the file's part.

    Returns:
        The name and the fields; the bytes are in the writer.

    Raises:
        FileTooLarge: As soon as the file is longer than `max_bytes`.
        InvalidRequest: If the body is not multipart, is cut short, or has no part of that name.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise InvalidRequest(f"The body must be multipart/form-data with a part named {part}.")
    upload = Upload(writer, max_bytes, part)
    try:
        parser: Any = MultipartParser(boundary, upload.callbacks())
    except FormParserError as exc:
        raise InvalidRequest(f"The boundary of the multipart body cannot be used: {exc}") from exc
    limit = max_bytes + _FORM_BYTES
    too_large = FileTooLarge(f"The request is larger than {max_bytes} bytes (max_file_size).")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise too_large
    try:
        async for data in body_chunks(request, max_bytes=limit, too_large=too_large):
            # In a thread: hashing and writing would block the event loop.
            await anyio.to_thread.run_sync(parser.write, data)
    except EmberqError:
        raise
    except Exception as exc:
        raise InvalidRequest(f"The multipart body cannot be read: {exc}") from exc
    if not upload.is_complete:
        raise InvalidRequest("The upload was cut short.", hint="Send it again; nothing was kept.")
    if upload.file_name is None:
        raise InvalidRequest(f"The form has no part named {part}.")
    return upload
