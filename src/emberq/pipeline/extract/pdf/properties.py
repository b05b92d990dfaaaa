"""A PDF's title, author, subject and keywords, and the files that are attached to it."""

from __future__ import annotations

import ctypes
import re
from typing import Any, Final

from pypdfium2 import raw

from emberq.errors.file_warnings import WarningCode
from emberq.pipeline.extract.builder import DocumentBuilder, squeeze
from emberq.pipeline.extract.pdf.strings import utf16

_KEYS: Final = (b"Title", b"Author", b"Subject", b"Keywords")

#: What programs write where a person wrote nothing: a placeholder, or the name of the file it was made from.
_PLACEHOLDER: Final = re.compile(
    r"\W*(?:untitled|anonymous|unspecified|unknown|title|author|subject|keywords|user|admin(?:istrator)?)?\W*"
    r"|Microsoft \w+ - .*|\S+\.(?:docx?|pptx?|xlsx?|odt|rtf|txt|tex|dvi|indd|qxd|pmd|html?|pdf|eps|ps)",
    re.IGNORECASE,
)

#: Most characters of one of them.
_MAX_LENGTH: Final = 2_000

#: Most files attached to a PDF that are read.
_MAX_FILES: Final = 1_000


def read_properties(document: Any, first_page: str) -> str:
    """Return title, author, subject and keywords on a line each, without those that the first page has."""
    shown = _plain(first_page)
    lines = []
    for key in _KEYS:
        value = squeeze(utf16(raw.FPDF_GetMetaText, document, key)[:_MAX_LENGTH])
        plain = _plain(value)
        if plain and plain not in shown and not _PLACEHOLDER.fullmatch(value):
            lines.append(value)
            shown += plain
    return "\n".join(lines)


def _plain(text: str) -> str:
    return re.sub(r"[\W_]+", "", text).casefold()


def attach_files(document: Any, build: DocumentBuilder) -> None:
    """Append the files that are attached to the document as a whole."""
    count = raw.FPDFDoc_GetAttachmentCount(document)
    for index in range(min(count, _MAX_FILES)):
        attach(raw.FPDFDoc_GetAttachment(document, index), build)
    if count > _MAX_FILES:
        build.warn(WarningCode.TRUNCATED_AT_LIMIT, count=count - _MAX_FILES)


def attach(file: Any, build: DocumentBuilder) -> None:
    """Append one file, by pdfium's handle of it."""
    if not file:
        return
    name = utf16(raw.FPDFAttachment_GetName, file)
    size = ctypes.c_ulong()
    raw.FPDFAttachment_GetFile(file, None, 0, size)
    build.meter.add_unpacked(size.value)
    data = ctypes.create_string_buffer(size.value)
    if size.value:
        raw.FPDFAttachment_GetFile(file, data, size.value, size)
    build.attach(data.raw, squeeze(name))
