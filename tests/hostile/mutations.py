"""Files made of others: cut, with flipped bits, of two kinds at once, and under false or odd names."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from functools import cache, partial

from tests.harness import sample_files
from tests.hostile.kinds import HostileFile, zip_members

#: The usual suffix of each media type.
_SUFFIXES = {
    "application/pdf": "pdf",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/epub+zip": "epub",
    "text/html": "html",
    "text/markdown": "md",
    "text/csv": "csv",
    "text/plain": "txt",
    "message/rfc822": "eml",
    "application/mbox": "mbox",
    "multipart/related": "mhtml",
    "text/calendar": "ics",
    "application/vnd.ms-outlook": "msg",
    "application/vnd.ms-tnef": "tnef",
    "application/json": "json",
    "application/x-ndjson": "jsonl",
    "application/x-ipynb+json": "ipynb",
    "application/xml": "xml",
    "application/docbook+xml": "dbk",
    "text/vtt": "vtt",
    "application/x-subrip": "srt",
    "text/x-rst": "rst",
    "text/org": "org",
    "text/x-tex": "tex",
    "text/x-source": "sh",
    "application/rtf": "rtf",
    "application/vnd.ms-powerpoint": "ppt",
    "application/msword": "doc",
    "application/vnd.oasis.opendocument.text": "odt",
    "application/vnd.oasis.opendocument.presentation": "odp",
    "application/zip": "zip",
    "application/x-tar": "tar",
    "application/gzip": "gz",
}
#: Where a structure of each family begins or ends.
_BOUNDARIES = re.compile(
    rb"PK\x01\x02|PK\x03\x04|PK\x05\x06|endstream|endobj|xref|trailer|startxref|%%EOF|\r?\n\r?\n|</\w+>|[{}\[\]]"
)
_CUTS = 6
_FLIPS = 6


@cache
def _samples() -> dict[str, bytes]:
    mail = sample_files.make_mail(("a.docx", "application/msword", sample_files.make_docx()))
    return {
        **{_SUFFIXES[kind]: make() for kind, (make, _word) in sample_files.EVERY_FORMAT.items()},
        "mail.eml": mail,
        "xls": sample_files.make_ole("Workbook"),
    }


def mutated_files(seed: int) -> Iterator[HostileFile]:
    """Yield the files; the same seed makes the same ones.

    The formats' libraries write the time into their files, so the positions are chosen by the seed, and the
    bytes around them may differ from run to run.
    """
    for suffix in _samples():
        yield from _cut(suffix, seed)
        yield from _flipped(suffix, seed)
    yield from _polyglots()
    yield from _lies()
    yield from _names()


def _cut(suffix: str, seed: int) -> Iterator[HostileFile]:
    for number in range(_CUTS):
        name = f"cut-{number}.{suffix}"
        yield HostileFile(name, partial(_cut_at, suffix, f"{seed}-{name}", number))


def _cut_at(suffix: str, seed: str, number: int) -> bytes:
    data = _samples()[suffix]
    ends = sorted({found.start() for found in _BOUNDARIES.finditer(data)} | {len(data) // 2}) or [1]
    # One cut in each part of the file, in the middle of nothing or just behind a mark.
    low, high = len(ends) * number // _CUTS, max(len(ends) * (number + 1) // _CUTS, 1)
    at = random.Random(seed).choice(ends[low:high] or ends)
    return data[: max(1, at + number % 2 * 4)]


def _flipped(suffix: str, seed: int) -> Iterator[HostileFile]:
    for number in range(_FLIPS):
        name = f"flip-{number}.{suffix}"
        yield HostileFile(name, partial(_flip, suffix, f"{seed}-{name}", 4**number))


def _flip(suffix: str, seed: str, bits: int) -> bytes:
    data = bytearray(_samples()[suffix])
    choose = random.Random(seed)
    for _ in range(bits):
        data[choose.randrange(len(data))] ^= 1 << choose.randrange(8)
    return bytes(data)


def _joined(*suffixes: str) -> bytes:
    return b"\n".join(_samples()[suffix] for suffix in suffixes)


def _polyglots() -> Iterator[HostileFile]:
    pairs = (
        *(
            ("pdf", "docx"),
            ("pdf", "epub"),
            ("pdf", "xlsx"),
            ("html", "pdf"),
            ("html", "docx"),
            ("eml", "pdf"),
        ),
        *(
            ("txt", "docx"),
            ("docx", "pdf"),
            ("xlsx", "docx"),
            ("json", "html"),
            ("csv", "pdf"),
            ("xls", "docx"),
        ),
    )
    for first, second in pairs:
        yield HostileFile(
            f"{first}-and-{second}.{second}",
            partial(_joined, first, second),
        )
    yield HostileFile("zip-with-pdf.pdf", lambda: zip_members({"a.pdf": _samples()["pdf"]}))
    yield HostileFile("html-script-zip.html", lambda: b"<html><!--" + _samples()["docx"] + b"--><p>words</p>")
    yield HostileFile("gif-script.gif", lambda: b"GIF89a/*" + b"\0" * 90 + b"*/=1;alert(1)")


def _lies() -> Iterator[HostileFile]:
    kinds = ("pdf", "docx", "xlsx", "epub", "html", "eml", "csv", "json", "txt")
    for number, kind in enumerate(kinds):
        claimed = kinds[(number + 4) % len(kinds)]
        yield HostileFile(f"{kind}-named.{claimed}", partial(_joined, kind), "document")
    for magic, claimed in (
        (sample_files.PNG, "txt"),
        (b"\x7fELF\x02\x01\x01" + bytes(200), "pdf"),
        (b"MZ" + bytes(300), "docx"),
        (b"\x1f\x8b\x08" + bytes(100), "csv"),
        (b"Rar!\x1a\x07\x00" + bytes(100), "eml"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(100), "html"),
        (b"II*\0" + bytes(100), "md"),
        (b"\xca\xfe\xba\xbe" + bytes(100), "json"),
        (b"SQLite format 3\0" + bytes(500), "xlsx"),
        (b"OggS" + bytes(100), "txt"),
    ):
        # An archive is opened.
        code = "corrupt_file" if magic.startswith(b"\x1f\x8b") else "unsupported_media_type"
        yield HostileFile(f"binary-{magic[:3].hex()}.{claimed}", partial(bytes, magic), code)


def _names() -> Iterator[HostileFile]:
    names = (
        *(
            "../../../../etc/passwd",
            "/etc/passwd",
            "..\\..\\windows\\system32\\a.txt",
            "C:\\a.txt",
            "file:///a.txt",
        ),
        *(
            "a\nb.txt",
            "a\r\nX-Header: b.txt",
            "a\tb.txt",
            "\u202egpj.txt",
            "\u2066a\u2069.md",
            "a\u0000b.txt",
        ),
        *(
            "\x1b[31ma\x1b[0m.txt",
            "👩\u200d👩\u200d👧.txt",
            "é.txt",
            "e\u0301.txt",
            "a" * 250 + ".txt",
            ".txt",
            "...",
        ),
        *(
            "a" + "\u0301" * 300 + ".txt",
            "<script>alert(1)</script>.html",
            "'; DROP TABLE files; --.csv",
            "%s%n%x.txt",
        ),
        *(
            "$(reboot).txt",
            "`reboot`.txt",
            "{{7*7}}.txt",
            "a.txt.",
            "con.txt",
            "-rf.txt",
            " .txt",
            "\u00ad.txt",
        ),
    )
    for name in names:
        yield HostileFile(name, lambda: sample_files.TEXT, "document")
