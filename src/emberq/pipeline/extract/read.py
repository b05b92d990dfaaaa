"""The entry point of extraction: runs the reader for a media type."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias

from emberq.errors import ArchiveBomb, FileError, FileTooLarge, NoTextFound, UnsupportedMediaType
from emberq.pipeline.document import Document
from emberq.pipeline.extract import archived, media
from emberq.pipeline.extract.builder import DocumentBuilder
from emberq.pipeline.extract.detect import detect_stream
from emberq.pipeline.extract.layout import image
from emberq.pipeline.extract.limits import Limits, Meter
from emberq.pipeline.extract.mail import mail, mbox, mhtml, msg, tnef
from emberq.pipeline.extract.opendocument import odt
from emberq.pipeline.extract.pdf import reader as pdf
from emberq.pipeline.extract.sheets import ods, sheet, xlsx
from emberq.pipeline.extract.slides import odp, ppt, pptx
from emberq.pipeline.extract.text import calendars, jsondata, latex, light_markup, markdown, subtitles, text
from emberq.pipeline.extract.web import epub, markup, notebook, xmldoc
from emberq.pipeline.extract.word import doc, docx, rtf

#: Takes the number of pages (slides, sheets, parts) read so far, and of all pages.
Progress: TypeAlias = Callable[[int, int], None]

#: Reads a stream into a builder and returns the number of pages; None if the format has none.
_Reader: TypeAlias = Callable[[BinaryIO, DocumentBuilder, Progress], int | None]

#: Most levels of files inside each other; the rest is left out.
_MAX_DEPTH: Final = 3

_READERS: Final[dict[str, _Reader]] = {
    media.PDF: pdf.read,
    media.DOCX: docx.read,
    media.PPTX: pptx.read,
    media.XLSX: xlsx.read,
    media.XLSB: sheet.read,
    media.XLS: sheet.read,
    media.ODS: ods.read,
    media.EPUB: epub.read,
    media.HTML: markup.read,
    media.MARKDOWN: markdown.read,
    media.CSV: text.read_csv,
    media.EML: mail.read,
    media.MBOX: mbox.read,
    media.MHTML: mhtml.read,
    media.MSG: msg.read,
    media.TNEF: tnef.read,
    media.ICALENDAR: calendars.read,
    media.TEXT: text.read,
    media.JSON: jsondata.read,
    media.JSON_LINES: jsondata.read_lines,
    media.RTF: rtf.read,
    media.DOC: doc.read,
    media.PPT: ppt.read,
    media.ODT: odt.read,
    media.ODP: odp.read,
    media.NOTEBOOK: notebook.read,
    **dict.fromkeys((media.XML, media.DOCBOOK, media.JATS, media.FB2, media.SVG), xmldoc.read),
    media.VTT: subtitles.read,
    media.SRT: subtitles.read,
    media.RST: light_markup.read_rst,
    media.ORG: light_markup.read_org,
    media.LATEX: latex.read,
    media.SOURCE: light_markup.read_source,
    media.ZIP: archived.read_zip,
    media.TAR: archived.read_tar,
    media.GZIP: archived.read_gzip,
    media.BZIP2: archived.read_bzip2,
    media.XZ: archived.read_xz,
    media.PNG: image.read,
    media.JPEG: image.read,
    media.TIFF: image.read,
    media.BMP: image.read,
    media.WEBP: image.read,
}

#: The media types that have a reader.
MEDIA_TYPES: Final = frozenset(_READERS)


def extract(
    path: Path,
    *,
    media_type: str,
    progress: Progress | None = None,
    factor: float = 1.0,
    ocr_seconds: float = 0.0,
    hidden: bool = True,
) -> Document:
    """Read a file into a document.

    Args:
        path: The file.
        media_type: The type of its content, as `detect` returns it.
        progress: Called after each page, slide, sheet or part with (done, total).
        factor: The setting file_budget.
        ocr_seconds: Most processor time for OCR, if its engine is loaded; 0 to leave pictures out.
        hidden: Whether hidden sheets and slides are read.

    Raises:
        FileError: If the file cannot be read; the subclass says why.
        NoTextFound: If the file can be read but has no text.
    """
    with path.open("rb") as stream:
        return extract_stream(
            stream,
            media_type=media_type,
            progress=progress,
            factor=factor,
            ocr_seconds=ocr_seconds,
            hidden=hidden,
        )


def extract_stream(
    stream: BinaryIO,
    *,
    media_type: str,
    progress: Progress | None = None,
    factor: float = 1.0,
    ocr_seconds: float = 0.0,
    hidden: bool = True,
) -> Document:
    """Read an open file into a document, as `extract`."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    meter = Meter(Limits.of(media_type, size, factor=factor, ocr_seconds=ocr_seconds, hidden=hidden))
    return _extract(stream, media_type, progress or _ignore, meter, depth=1)


def _extract(stream: BinaryIO, media_type: str, progress: Progress, meter: Meter, *, depth: int) -> Document:
    reader = _READERS.get(media_type)
    if reader is None:
        raise UnsupportedMediaType(f"There is no reader for {media_type}.")
    attachment = partial(_attachment, meter=meter, depth=depth + 1) if depth < _MAX_DEPTH else None
    build = DocumentBuilder(meter, read_attachment=attachment)
    pages = reader(stream, build, progress)
    if build.is_blank:
        raise NoTextFound
    return build.build(media_type, page_count=pages)


def _attachment(data: bytes, name: str, *, meter: Meter, depth: int) -> Document | None:
    """Read a file inside a file; return None if it has no readable text: a picture, or locked or damaged."""
    stream = io.BytesIO(data)
    try:
        return _extract(stream, detect_stream(stream, name=name, meter=meter), _ignore, meter, depth=depth)
    except (ArchiveBomb, FileTooLarge):
        # The file as a whole has passed a limit.
        raise
    except FileError:
        return None


def _ignore(_done: int, _total: int) -> None:
    return None
