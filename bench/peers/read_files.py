"""Read files with one program and print a line of JSON for each: `read_files.py READER SECONDS FILE…`.

The line has the file, the seconds of processor time, and the text or the name of the error. The first file is
read once before, so that what a program loads at its first file is not counted.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any


def emberq() -> Callable[[Path], str]:
    """Return emberq's reader, as its child runs it."""
    from emberq.pipeline.extract.detect import detect
    from emberq.pipeline.extract.read import extract

    return lambda path: extract(path, media_type=detect(path, name=path.name)).text


def kreuzberg() -> Callable[[Path], str]:
    """Return kreuzberg's reader."""
    from kreuzberg import extract_file_sync

    return lambda path: str(extract_file_sync(str(path)).content)


def markitdown() -> Callable[[Path], str]:
    """Return markitdown's reader."""
    from markitdown import MarkItDown

    convert = MarkItDown(enable_plugins=False).convert_local
    return lambda path: str(convert(str(path)).text_content)


def reference() -> Callable[[Path], str]:
    """Return a reader that keeps all visible text of a format, one library for each."""
    return lambda path: _REFERENCES[path.suffix.lower()](path)


def _pdf(path: Path) -> str:
    import pypdf

    return "\n".join(page.extract_text() for page in pypdf.PdfReader(path).pages)


def _docx(path: Path) -> str:
    import docx2txt

    return str(docx2txt.process(str(path)))


def _pptx(path: Path) -> str:
    import pptx

    return "\n".join(
        shape.text_frame.text
        for slide in pptx.Presentation(str(path)).slides
        for shape in slide.shapes
        if shape.has_text_frame
    )


def _html(path: Path) -> str:
    return _visible(path.read_bytes())


def _visible(data: bytes) -> str:
    from bs4 import BeautifulSoup

    page = BeautifulSoup(data, "html.parser")
    for part in page(["script", "style", "template", "noscript"]):
        part.decompose()
    return str(page.get_text(" "))


def _epub(path: Path) -> str:
    import ebooklib
    from ebooklib import epub

    book = epub.read_epub(str(path))
    items = (book.get_item_with_id(name) for name, _ in book.spine)
    return "\n".join(
        _visible(item.get_content())
        for item in items
        if item is not None and item.get_type() == ebooklib.ITEM_DOCUMENT
    )


_REFERENCES = {".pdf": _pdf, ".docx": _docx, ".pptx": _pptx, ".html": _html, ".epub": _epub}


class _TooLong(BaseException):
    """A file took longer than its seconds."""


def _end(_number: int, _frame: FrameType | None) -> None:
    raise _TooLong


def main() -> None:
    """Read the files that the arguments name."""
    name, seconds, *files = sys.argv[1:]
    read: Callable[[Path], str] = {
        "emberq": emberq,
        "kreuzberg": kreuzberg,
        "markitdown": markitdown,
        "reference": reference,
    }[name]()
    signal.signal(signal.SIGALRM, _end)
    for number, file in enumerate([files[0], *files]):
        told: dict[str, Any] = {"file": file}
        signal.alarm(int(seconds))
        started = time.process_time()
        try:
            told["text"] = read(Path(file))
        except (Exception, _TooLong) as exc:  # noqa: BLE001 - whatever a program raises is its answer
            told["error"] = getattr(exc, "code", None) or type(exc).__name__
        finally:
            signal.alarm(0)
        told["cpu"] = time.process_time() - started
        if number:
            print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
