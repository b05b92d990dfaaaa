"""Files as people upload them: of every kind, each with bytes of its own, and some that cannot be read."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.harness.paths import CORPUS

__all__ = ["MixedFile", "mixed_files"]

#: Kinds of files to which a line can be appended.
_PLAIN = {".txt", ".md", ".csv", ".html"}
_ZIPPED = {".docx", ".pptx", ".xlsx", ".epub"}
#: Names and bytes of unreadable files.
_UNREADABLE = {
    "broken.pdf": b"%PDF-1.7 and then nothing that would be one",
    "machine-code.bin": bytes(range(256)) * 40,
    "cut-off.docx": b"PK\x03\x04 a package that ends too early",
    "half-a-show.pptx": b"PK\x03\x04\x14\x00\x06\x00" + bytes(range(200)),
}


@dataclass(frozen=True, slots=True)
class MixedFile:
    """A file to upload.

    Attributes:
        name: Its name; no two are the same.
        content: Its bytes; no two are the same.
        is_readable: Whether there is text in it.
    """

    name: str
    content: bytes
    is_readable: bool


def mixed_files(count: int) -> Iterator[MixedFile]:
    """Yield files, one in twenty of them unreadable."""
    sources = sorted(path for path in CORPUS.iterdir() if path.suffix in _PLAIN | _ZIPPED | {".pdf"})
    for number in range(count):
        if number % 20 == 19:
            name, content = list(_UNREADABLE.items())[number // 20 % len(_UNREADABLE)]
            yield MixedFile(f"{number}-{name}", content + b"%d" % number, is_readable=False)
        else:
            source = sources[number % len(sources)]
            yield MixedFile(f"{number}-{source.name}", _with_mark(source, number), is_readable=True)


def _with_mark(path: Path, number: int) -> bytes:
    content = path.read_bytes()
    if path.suffix in _PLAIN:
        return content + f"\nThis is copy {number}.\n".encode()
    if path.suffix in _ZIPPED:
        return _with_comment(content, f"copy {number}".encode())
    return content + b"\n%% copy %d\n" % number


def _with_comment(content: bytes, comment: bytes) -> bytes:
    buffer = io.BytesIO(content)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = comment
    return buffer.getvalue()
