"""Detection of a file's media type by its content; the name decides only between kinds of plain text."""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import BinaryIO, Final

import puremagic

from emberq.errors import EmptyFile, EncryptedFile, UnsupportedMediaType
from emberq.pipeline.extract import media
from emberq.pipeline.extract.kinds.mailkind import mail_kind
from emberq.pipeline.extract.kinds.signatures import find_signature, is_tar
from emberq.pipeline.extract.kinds.textkind import text_kind
from emberq.pipeline.extract.layout import ocr
from emberq.pipeline.extract.limits import Meter
from emberq.pipeline.extract.mail.tnef import TNEF_MAGIC
from emberq.pipeline.extract.packed.archive import open_archive, read_member
from emberq.pipeline.extract.packed.ole import OLE_MAGIC, CompoundFile
from emberq.pipeline.extract.text.decode import guess_wide

#: Bytes that are read from the beginning; more are read only for containers and JSON.
_HEAD: Final = 64 * 1024

#: The pictures that OCR reads, by what their signatures say.
_PICTURES: Final = {
    "a PNG image": media.PNG,
    "a JPEG image": media.JPEG,
    "a TIFF image": media.TIFF,
    "a BMP image": media.BMP,
    "a WEBP file (sound, film or picture)": media.WEBP,
}

#: Bytes at the beginning in which readers look for a PDF's mark, by the standard's appendix.
_PDF_HEAD: Final = 1024

_ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06")

#: Patterns of the content types of main parts, and the Office format of each.
_OFFICE: Final = (
    (re.compile(rb"wordprocessingml\.(?:document|template)\.main|ms-word\.[\w.]+\.main"), media.DOCX),
    (re.compile(rb"presentationml\.(?:presentation|slideshow|template)\.main"), media.PPTX),
    (re.compile(rb"ms-powerpoint\.[\w.]+\.main"), media.PPTX),
    (re.compile(rb"spreadsheetml\.(?:sheet|template)\.main"), media.XLSX),
    (re.compile(rb"ms-excel\.sheet\.binary\.[\w.]*main"), media.XLSB),
    (re.compile(rb"ms-excel\.[\w.]+\.main"), media.XLSX),
)

#: Files that are told by their first bytes alone.
_MARKS: Final = {
    b"{\\rtf": media.RTF,
    b"\x1f\x8b\x08": media.GZIP,
    b"\xfd7zXZ\0": media.XZ,
    TNEF_MAGIC: media.TNEF,
    **{b"BZh%d1AY&SY" % level: media.BZIP2 for level in range(1, 10)},
}

#: Members by which a ZIP archive is told that is not one of documents.
_OTHER_ZIP: Final = {
    "META-INF/MANIFEST.MF": "a Java program",
    "AndroidManifest.xml": "an Android program",
    "Index/Document.iwa": "an Apple iWork document",
    "Index.zip": "an Apple iWork document",
}

#: Control characters of real text: tab, line ends, form feed, backspace, escape, old end-of-file mark.
_TEXT_CONTROLS: Final = b"\t\n\v\f\r\b\x1a\x1b"
_CONTROLS: Final = bytes(set(range(1, 0x20)) - set(_TEXT_CONTROLS)) + b"\x7f"
_PRINTABLE: Final = bytes(range(0x20, 0x7F)) + _TEXT_CONTROLS

#: Largest share of other control characters in a text; in compressed data it is about a tenth.
_MAX_CONTROLS: Final = 0.01
#: Records may be separated by control characters: by few kinds of them, and not by most of the bytes.
_MAX_SEPARATORS: Final = 0.2
_MAX_SEPARATOR_KINDS: Final = 3
#: Largest share of NUL in a text, where it fills fields of a fixed width.
_MAX_NUL: Final = 0.9
#: Least share of ASCII in a text with NUL that is not Unicode; pictures have less.
_MIN_ASCII: Final = 0.6
#: Least share of characters that can be shown in UTF-16 and UTF-32; other bytes with their marks have less.
_MIN_SHOWN: Final = 0.9
#: Marks of UTF-16 and UTF-32; the longer ones first, as the shorter ones are their beginnings.
_UNICODE: Final = (
    *((codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be")),
    *((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")),
)
#: Bytes that repeat as in a white or even area of a picture; lines of text and of boxes are shorter.
_AREA: Final = re.compile(rb"\xff{64}|([\x80-\xfe])\1{255}")

#: Most characters of puremagic's description in an error message.
_MAX_DESCRIPTION: Final = 80


def detect(path: Path, *, name: str | None = None) -> str:
    """Return the media type of a file by its content.

    Args:
        path: The file.
        name: The file's name; it only decides between plain text, Markdown and CSV if the text is ambiguous.

    Raises:
        ArchiveBomb: If the file is a container that would unpack to far more than a document has.
        CorruptFile: If the file is a container whose directory is damaged.
        EmptyFile: If the file has no bytes.
        EncryptedFile: If the file is an Office document that is protected by a password.
        UnsupportedMediaType: If there is no reader for the file's type; the message names the type.
    """
    with path.open("rb") as stream:
        return detect_stream(stream, name=name)


def detect_stream(stream: BinaryIO, *, name: str | None = None, meter: Meter | None = None) -> str:
    """Return the media type of an open file, as `detect`, and rewind the file.

    Args:
        stream: The file.
        name: As for `detect`.
        meter: Counts what is unpacked; with limits of its own if left out.
    """
    head = stream.read(_HEAD)
    if not head:
        raise EmptyFile
    kind = _binary_kind(head, stream, meter or Meter()) or mail_kind(head, stream)
    if kind is None:
        _check_text(head)
        kind = text_kind(head, stream, name=name)
    stream.seek(0)
    return kind


def _binary_kind(head: bytes, stream: BinaryIO, meter: Meter) -> str | None:
    """Return the type of a format with a signature; None if the file may be text."""
    if head.startswith(_ZIP):
        return _zip_kind(stream, meter)
    if head.startswith(OLE_MAGIC):
        return _ole_kind(stream, meter)
    if head.lstrip(b"\xef\xbb\xbf \t\r\n\0").startswith(b"%PDF-"):
        return media.PDF
    kind = next((kind for mark, kind in _MARKS.items() if head.startswith(mark)), None)
    if kind or is_tar(head):
        return kind or media.TAR
    what = find_signature(head, stream)
    stream.seek(len(head))
    if what:
        return _picture_kind(what)
    # Last, because pictures and archives may contain a PDF.
    return media.PDF if _has_late_pdf_mark(head) else None


def _picture_kind(what: str) -> str:
    """Return the type of a picture that OCR can read, or raise UnsupportedMediaType."""
    if what in _PICTURES and ocr.is_loaded():
        return _PICTURES[what]
    hint = ocr.HINT if what in _PICTURES else None
    raise UnsupportedMediaType(f"The file is {what}.", hint=hint)


def _has_late_pdf_mark(head: bytes) -> bool:
    """Return whether a PDF follows a few bytes that a mail gateway or printer added.

    Prose that only mentions the mark is not a PDF.
    """
    found = re.search(rb"%PDF-\d\.\d[\r\n]", head[:_PDF_HEAD])
    return found is not None and re.search(rb"\d+ \d+ obj\b", head[found.end() :]) is not None


def _zip_kind(stream: BinaryIO, meter: Meter) -> str:
    with open_archive(stream, meter) as archive:
        names = frozenset(archive.namelist())
        mimetype = read_member(archive, "mimetype", meter).strip() if "mimetype" in names else b""
        if mimetype == media.EPUB.encode() or (not mimetype and "META-INF/container.xml" in names):
            return media.EPUB
        for kind in (media.ODS, media.ODT, media.ODP):
            if mimetype.startswith(kind.encode()):
                return kind
        if mimetype:
            raise UnsupportedMediaType(
                f"The file is a {mimetype[:_MAX_DESCRIPTION].decode('ascii', 'replace')}."
            )
        if "[Content_Types].xml" not in names:
            for name, what in _OTHER_ZIP.items():
                if name in names:
                    raise UnsupportedMediaType(f"The file is {what}.")
            return media.ZIP
        types = read_member(archive, "[Content_Types].xml", meter)
    for pattern, kind in _OFFICE:
        if pattern.search(types):
            return kind
    raise UnsupportedMediaType("The file is an Office container without a document, slides or workbook.")


def _ole_kind(stream: BinaryIO, meter: Meter) -> str:
    names = CompoundFile(stream, meter).paths
    if "EncryptedPackage" in names:
        raise EncryptedFile("The Office document is protected by a password.")
    if names & {"Workbook", "Book"}:
        return media.XLS
    if "WordDocument" in names:
        return media.DOC
    if "PowerPoint Document" in names:
        return media.PPT
    if any(name.startswith("__substg1.0_") for name in names):
        return media.MSG
    raise UnsupportedMediaType("The file is a compound file of an unknown program.")


def _check_text(head: bytes) -> None:
    """Raise UnsupportedMediaType if the bytes are not text in any encoding."""
    if not _is_text(head):
        raise UnsupportedMediaType(f"The file is {_describe(head)}.")


def _is_text(head: bytes) -> bool:
    for mark, encoding in _UNICODE:
        if head.startswith(mark):
            return _is_shown(head[len(mark) :], encoding)
    if guess_wide(head):
        return True
    text = head.replace(b"\0", b"")
    nul = len(head) - len(text)
    controls = len(text) - len(text.translate(None, _CONTROLS))
    if _is_utf8(text):
        return nul <= _MAX_NUL * len(head) and (
            controls <= _MAX_CONTROLS * len(text) or _has_separators(text, controls)
        )
    if nul > _MAX_CONTROLS * len(head):
        ascii_bytes = len(text) - len(text.translate(None, _PRINTABLE))
        return not controls and nul <= _MAX_SEPARATORS * len(head) and ascii_bytes >= _MIN_ASCII * len(head)
    return nul + controls <= _MAX_CONTROLS * len(head) and not _AREA.search(head)


def _is_shown(data: bytes, encoding: str) -> bool:
    """Return whether bytes with the mark of an encoding are text in it."""
    text = codecs.getincrementaldecoder(encoding)("replace").decode(data)
    shown = sum(char.isprintable() or char.isspace() for char in text)
    return shown >= _MIN_SHOWN * len(text)


def _is_utf8(data: bytes) -> bool:
    """Return whether bytes are UTF-8; the last character may be cut."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data)
    except UnicodeDecodeError:
        return False
    return True


def _has_separators(text: bytes, controls: int) -> bool:
    """Return whether the control characters of a text are separators of its records and fields."""
    kinds = sum(bytes((byte,)) in text for byte in _CONTROLS)
    return controls <= _MAX_SEPARATORS * len(text) and kinds <= _MAX_SEPARATOR_KINDS


def _describe(head: bytes) -> str:
    """Return a description of a binary file for people."""
    try:
        matches = puremagic.magic_string(head)
    except (puremagic.PureError, ValueError):
        return "binary data of an unknown kind"
    best = next((match for match in matches if match.name), None)
    if best is None:
        return "binary data of an unknown kind"
    kind = f" ({best.mime_type})" if best.mime_type else ""
    return f"not text but {best.name[:_MAX_DESCRIPTION]}{kind}"
