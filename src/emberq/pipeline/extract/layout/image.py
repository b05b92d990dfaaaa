"""Pictures: PNG, JPEG, TIFF, BMP and WebP, whose text is read by OCR."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final

from PIL import Image, ImageDraw, ImageOps

from emberq.errors import CorruptFile, UnsupportedMediaType
from emberq.errors.file_warnings import WarningCode
from emberq.pipeline.extract import media
from emberq.pipeline.extract.builder import DocumentBuilder
from emberq.pipeline.extract.layout import ocr
from emberq.pipeline.extract.layout.blocks import write_blocks
from emberq.pipeline.extract.layout.placed import Line
from emberq.pipeline.extract.limits import Limits, Meter

#: The formats, by Pillow's names.
_FORMATS: Final = {
    "PNG": media.PNG,
    "JPEG": media.JPEG,
    "TIFF": media.TIFF,
    "BMP": media.BMP,
    "WEBP": media.WEBP,
}

#: Most pixels of a picture; a page of A4 at 600 per inch has 35 million.
_MAX_PIXELS: Final = 40_000_000

#: Most pages of a TIFF.
_MAX_PAGES: Final = 10_000


def read(stream: BinaryIO, build: DocumentBuilder, progress: Callable[[int, int], None]) -> int:
    """Read a picture, or each page of a TIFF.

    Returns:
        The number of pages.

    Raises:
        CorruptFile: If it is damaged.
        UnsupportedMediaType: If pictures are not read.
    """
    if not ocr.may_read(build.meter):
        raise UnsupportedMediaType("The file is a picture.", hint=ocr.HINT)
    pages = _pages(stream, build, progress)
    write_blocks(pages, build, end_page=lambda _index: None)
    return len(pages)


def warm_up() -> None:
    """Read a word in each format, if OCR is loaded: Pillow and the engine load what they need only then."""
    if not ocr.is_loaded():
        return
    sample = Image.new("RGB", (200, 60), "white")
    ImageDraw.Draw(sample).text((20, 15), "Some words", fill="black")
    for name in _FORMATS:
        stream = io.BytesIO()
        sample.save(stream, name)
        read(stream, DocumentBuilder(Meter(Limits(ocr_seconds=math.inf))), lambda _done, _total: None)


def _pages(
    stream: BinaryIO, build: DocumentBuilder, progress: Callable[[int, int], None]
) -> list[list[Line]]:
    pages: list[list[Line]] = []
    with _damage_told():
        picture = Image.open(stream, formats=tuple(_FORMATS))
        # Further frames of other formats are those of a film.
        count = min(getattr(picture, "n_frames", 1), _MAX_PAGES) if picture.format == "TIFF" else 1
    for index in range(count):
        with _damage_told():
            picture.seek(index)
            is_read = picture.width * picture.height <= _MAX_PIXELS and build.meter.has_ocr_left
            shown = _upright(picture) if is_read else None
        if shown is None:
            build.warn(WarningCode.TRUNCATED_AT_LIMIT, f"page {index + 1}")
        pages.append(ocr.read_picture(shown, build.meter) if shown else [])
        progress(index + 1, count)
    return pages


@contextlib.contextmanager
def _damage_told() -> Iterator[None]:
    try:
        yield
    except (OSError, SyntaxError, ValueError, EOFError, TypeError, Image.DecompressionBombError) as exc:
        raise CorruptFile("The picture is damaged.") from exc


def _upright(frame: Image.Image) -> Image.Image:
    """Return a picture as it is shown, small enough to be read."""
    frame.draft("RGB", (ocr.MAX_SIDE, ocr.MAX_SIDE))
    shown = ImageOps.exif_transpose(frame)
    if shown.has_transparency_data:
        shown = shown.convert("RGBA")
        white = Image.new("RGBA", shown.size, "white")
        shown = Image.alpha_composite(white, shown)
    shown = shown.convert("RGB")
    shown.thumbnail((ocr.MAX_SIDE, ocr.MAX_SIDE))
    return shown
