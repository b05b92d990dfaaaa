"""OCR: the lines of text in a picture, by RapidOCR where the extra `emberq[ocr]` is installed.

The reader loads the engine before it forks; its children have it without opening a file. It has one thread.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import resource
import statistics
import time
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from emberq.pipeline.extract.layout.columns import arrange
from emberq.pipeline.extract.layout.placed import Box, Line
from emberq.pipeline.extract.limits import Meter

if TYPE_CHECKING:
    from PIL import Image

#: Pixels of the longer side of a picture that is read; more do not make it better. A page of A4 then has 170
#: per inch.
MAX_SIDE: Final = 2000

#: Lines have the same size if their heights differ by less than this share: boxes are tight around letters.
_SAME_SIZE: Final = 0.35

#: What to do about a picture or a scan that is not read.
HINT: Final = "Install emberq[ocr] and set ocr_enabled, or run OCR over it first and upload the result."

_SETTINGS: Final = {
    "Global.log_level": "critical",
    "Global.max_side_len": MAX_SIDE,
    "EngineConfig.onnxruntime.intra_op_num_threads": 1,
    "EngineConfig.onnxruntime.inter_op_num_threads": 1,
}

_engines: Final[list[Any]] = []


@cache
def is_installed() -> bool:
    """Tell whether the extra is installed."""
    return all(importlib.util.find_spec(name) for name in ("rapidocr", "cv2", "shapely", "pyclipper"))


def load() -> None:
    """Load the engine, if it is installed; it loads its models when it reads for the first time."""
    if not is_installed() or _engines:
        return
    environment = dict(os.environ)
    import cv2
    from rapidocr import RapidOCR

    # OpenCV adds its folders to the search path of libraries.
    os.environ.clear()
    os.environ.update(environment)

    # OpenCV's threads do not survive a fork.
    cv2.setNumThreads(0)
    _engines.append(RapidOCR(params=_SETTINGS))


def is_loaded() -> bool:
    """Tell whether the engine is loaded."""
    return bool(_engines)


def may_read(meter: Meter) -> bool:
    """Tell whether the engine is loaded and pictures of this file are to be read."""
    return is_loaded() and meter.limits.ocr_seconds > 0


def read_picture(picture: Image.Image, meter: Meter) -> list[Line]:
    """Return the lines of text in a picture, column by column; their places are in pixels, upwards.

    Args:
        picture: An RGB picture of at most `MAX_SIDE` pixels on each side.
        meter: Counts the processor time.
    """
    begun = time.process_time()
    with _more_processor_time():
        found = _engines[0](picture)
    meter.add_ocr(time.process_time() - begun)
    return arrange(list(_lines(found)))[0]


@contextlib.contextmanager
def _more_processor_time() -> Iterator[None]:
    """Let this process use its time for OCR too, and then no more than it has used."""
    begun = time.process_time()
    soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (hard, hard))
    try:
        yield
    finally:
        if soft != resource.RLIM_INFINITY:
            soft += math.ceil(time.process_time() - begun)
            soft = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _lines(found: Any) -> Iterator[Line]:
    if found.boxes is None or found.txts is None:
        return
    # Lines of a drawing are taken for signs, but not for letters or digits.
    read = [
        (_edges(corners), text)
        for corners, text in zip(found.boxes.tolist(), found.txts, strict=True)
        if any(map(str.isalnum, text))
    ]
    if not read:
        return
    usual = statistics.median(top - bottom for (_, bottom, _, top), _ in read)
    for (left, bottom, right, top), text in read:
        height = top - bottom
        size = usual if abs(height - usual) < _SAME_SIZE * usual else height
        # As pdfium marks a hyphen at the end of a line.
        words = text[:-1] + "\x02" if text.endswith("-") and text[-2:-1].isalpha() else text
        yield Line(words, left, bottom, right, top, size)


def _edges(corners: Sequence[Sequence[float]]) -> Box:
    across, down = zip(*corners, strict=True)
    return min(across), -max(down), max(across), -min(down)
