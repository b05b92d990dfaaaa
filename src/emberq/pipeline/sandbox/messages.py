"""What horse, reader and child tell each other.

A child sends its horse messages in bytes that the horse can validate: a letter, a length and a body. The
letters are `P` (progress), `R` (the document) and `E` (an error).
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from typing import Final

from emberq.errors.file_warnings import FileWarning, WarningCode
from emberq.pipeline.document import Document, Segment, SegmentKind
from emberq.pipeline.extract.builder import MAX_NAME, MAX_NAMES, clean

PROGRESS: Final = b"P"
RESULT: Final = b"R"
ERROR: Final = b"E"

#: The letter of a message and the length of its body.
HEADER: Final = struct.Struct("<cQ")
#: The body of a progress message: done and total.
PROGRESS_BODY: Final = struct.Struct("<II")

#: The exit status for "out of memory"; unlike a message it needs no memory.
EXIT_OUT_OF_MEMORY: Final = 77
#: Characters of a traceback or native crash report that are kept, from the end.
MAX_DETAIL: Final = 8 * 1024

#: Bytes of a request to the reader. All have this size, so that the requests of several horses stay apart on
#: sockets that keep no limits between messages.
REQUEST_BYTES: Final = 4096
#: The reader has started a child: its process id.
STARTED: Final = struct.Struct("<I")
#: The child has ended: how, as `Popen.returncode`, and its most resident memory beyond the reader's in bytes.
ENDED: Final = struct.Struct("<iQ")

#: The lengths of the description and of the segments that follow.
_SIZES: Final = struct.Struct("<II")
#: Kind, start, end, page (0 for none), level, start and end of the table's header (0 for none).
_SEGMENT: Final = struct.Struct("<BQQIBQQ")
#: The largest page number that fits into a database column of four bytes.
_MAX_PAGE: Final = (1 << 31) - 1
#: The most that a warning may count.
_MAX_COUNT: Final = (1 << 31) - 1
_KINDS: Final = tuple(SegmentKind)


def send(pipe: int, kind: bytes, *parts: bytes) -> None:
    """Write one message, with its body in parts.

    Raises:
        OSError: If the other end of the pipe is closed.
    """
    for part in (HEADER.pack(kind, sum(map(len, parts))), *parts):
        rest = memoryview(part)
        while rest:
            rest = rest[os.write(pipe, rest) :]


def to_bytes(document: Document) -> list[bytes]:
    """Return a document as parts of a message body."""
    warnings = [[warning.code, warning.count, warning.names] for warning in document.warnings]
    description = json.dumps([document.media_type, document.page_count, warnings]).encode()
    segments = b"".join(
        _SEGMENT.pack(
            _KINDS.index(piece.kind),
            piece.start,
            piece.end,
            piece.page or 0,
            piece.level,
            *(piece.header or (0, 0)),
        )
        for piece in document.segments
    )
    sizes = _SIZES.pack(len(description), len(segments))
    return [sizes, description, segments, document.text.encode("utf-8")]


def from_bytes(data: bytes | bytearray) -> Document:
    """Return the document in a message body.

    Raises:
        ValueError: If `to_bytes` cannot have made the bytes, or they break a document's invariants.
    """
    if len(data) < _SIZES.size:
        raise ValueError("it is cut short")
    described, segmented = _SIZES.unpack_from(data)
    first = _SIZES.size + described
    if len(data) < first + segmented or segmented % _SEGMENT.size:
        raise ValueError("its sizes do not add up")
    match json.loads(data[_SIZES.size : first]):
        case [str() as media_type, (int() | None) as page_count, list() as told]:
            warnings = tuple(map(_warning, told))
        case _:
            raise ValueError("its description is malformed")
    with memoryview(data) as view:
        text = str(view[first + segmented :], "utf-8")
        if "\0" in text:
            raise ValueError("its text has a zero character")
        segments = tuple(_segments(view[first : first + segmented], len(text)))
    return Document(text, media_type, segments, page_count, warnings)


def _warning(told: object) -> FileWarning:
    match told:
        case [str() as code, int() as count, list() as names] if 0 < count <= _MAX_COUNT and all(
            isinstance(name, str) and clean(name) == name and len(name) <= MAX_NAME for name in names
        ):
            return FileWarning(WarningCode(code), count, tuple(names[:MAX_NAMES]))
    raise ValueError("a warning is malformed")


def _segments(data: memoryview, length: int) -> Iterator[Segment]:
    done = 0
    for kind, start, end, page, level, *header in _SEGMENT.iter_unpack(data):
        if not (done <= start < end <= length and kind < len(_KINDS) and page <= _MAX_PAGE):
            raise ValueError("a segment is out of place")
        named = header[1] > 0
        if named and not (header[0] < header[1] <= end and _KINDS[kind] is SegmentKind.TABLE):
            raise ValueError("a table's header is out of place")
        yield Segment(
            _KINDS[kind], start, end, page or None, level, (header[0], header[1]) if named else None
        )
        done = end
