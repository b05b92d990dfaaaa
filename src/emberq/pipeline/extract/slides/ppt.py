"""PowerPoint's old binary format: for each slide its title, the texts of its shapes, and its notes.

The file is a tree of records. The last of its saved versions names where each slide lies; see [MS-PPT].
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import BinaryIO, Final, NamedTuple

from emberq.errors import CorruptFile, EncryptedFile
from emberq.errors.file_warnings import WarningCode
from emberq.pipeline.extract.builder import DocumentBuilder
from emberq.pipeline.extract.limits import Meter
from emberq.pipeline.extract.packed.ole import CompoundFile

#: The header of a record: version and instance, kind, length.
_HEADER: Final = struct.Struct("<HHI")
#: The version of records that contain others.
_CONTAINER: Final = 0xF

#: The lists of slides by their instance.
_SLIDES: Final = 0
_NOTES: Final = 2

#: Kinds of text: titles, and notes.
_TITLES: Final = frozenset({0, 6})
_NOTE: Final = 2
#: The kind of shape that is a picture.
_PICTURE: Final = 75

#: The marks of the stream with the present version: of an open file, and of one with a password.
_PLAIN_MARK: Final = 0xE391C05F
_LOCKED_MARK: Final = 0xF3D1C4DF

#: Most saved versions behind each other, and most records inside each other.
_MAX_EDITS: Final = 10_000
_MAX_DEPTH: Final = 40


class _Kind(IntEnum):
    """The kinds of records."""

    SLIDE = 1007
    SLIDE_PLACE = 1011
    TEXT_REFERENCE = 3998
    TEXT_HEADER = 3999
    TEXT_CHARS = 4000
    TEXT_BYTES = 4008
    SLIDE_LIST = 4080
    USER_EDIT = 4085
    PLACES = 6002
    SHAPE = 0xF00A


class _Record(NamedTuple):
    kind: int
    instance: int
    is_container: bool
    start: int
    end: int


class _Text(NamedTuple):
    kind: int
    text: str


@dataclass(slots=True)
class _Slide:
    """An entry of a list of slides: the number of its place, its own number, and its texts in the outline."""

    place: int
    number: int
    texts: list[_Text] = field(default_factory=list)


def read(stream: BinaryIO, build: DocumentBuilder, progress: Callable[[int, int], None]) -> int:
    """Read a presentation; its pages are the slides.

    Returns:
        The number of slides.

    Raises:
        ArchiveBomb: If its slides overlap so that they have far more bytes than the file.
        CorruptFile: If it is damaged.
        EncryptedFile: If it is protected by a password.
    """
    compound = CompoundFile(stream, build.meter)
    data = compound.read("PowerPoint Document")
    user = compound.read("Current User")
    try:
        mark, newest = struct.unpack_from("<II", user, 12)
        if mark == _LOCKED_MARK:
            raise EncryptedFile("The presentation is protected by a password.")
        if mark != _PLAIN_MARK:
            raise CorruptFile("The presentation is damaged: it does not name its present version.")
        presentation = _Presentation(data, newest, build.meter)
        slides, notes = presentation.lists()
        for number, slide in enumerate(slides, 1):
            build.page = number
            _write_slide(presentation, slide, notes, build)
            progress(number, len(slides))
    except struct.error as exc:
        raise CorruptFile("The presentation is cut short.") from exc
    return len(slides)


def _write_slide(
    presentation: _Presentation, slide: _Slide, notes: dict[int, int], build: DocumentBuilder
) -> None:
    texts, note, pictures = presentation.texts(slide)
    # A stable sort: the title comes first, the rest stays in drawing order.
    for kind, text in sorted(texts, key=lambda one: one.kind not in _TITLES):
        if kind in _TITLES:
            build.heading(text, 1)
        else:
            build.paragraph(text)
    if note in notes:
        said, _note, _pictures = presentation.texts(_Slide(notes[note], 0))
        for kind, text in said:
            if kind == _NOTE:
                build.paragraph(text)
    if pictures:
        build.warn(WarningCode.IMAGES_SKIPPED, count=pictures)


class _Presentation:
    def __init__(self, data: bytes, newest: int, meter: Meter) -> None:
        """Find where the parts of the present version lie.

        Args:
            data: The stream of the records.
            newest: The place of the record of the newest version.
            meter: Counts the bytes of the slides.
        """
        self._data = data
        self._meter = meter
        self._places: dict[int, int] = {}
        self._document = 0
        at = newest
        for _ in range(_MAX_EDITS):
            record = self._record(at)
            if record is None or record.kind != _Kind.USER_EDIT:
                break
            before, places, document = struct.unpack_from("<8xIII", data, record.start)
            self._document = self._document or document
            self._read_places(places)
            # Each version was written behind the one before it.
            if not before or before >= at:
                break
            at = before

    def _read_places(self, at: int) -> None:
        """Read where the parts of one version lie; those of newer versions are known and stay."""
        record = self._record(at)
        if record is None or record.kind != _Kind.PLACES:
            return
        numbers = iter(struct.unpack_from(f"<{(record.end - record.start) // 4}I", self._data, record.start))
        for head in numbers:
            first, count = head & 0xFFFFF, head >> 20
            for number, place in zip(range(first, first + count), numbers, strict=False):
                self._places.setdefault(number, place)

    def lists(self) -> tuple[list[_Slide], dict[int, int]]:
        """Return the slides, and the places of the notes by their numbers."""
        document = self._record(self._places.get(self._document, len(self._data)))
        if document is None:
            raise CorruptFile("The presentation is damaged: it has no document.")
        slides: dict[int, _Slide] = {}
        notes: dict[int, int] = {}
        for record in self._records(document.start, document.end):
            if record.kind == _Kind.SLIDE_LIST and record.instance == _SLIDES:
                # Each slide once: a small hostile file could name its largest slide a million times.
                slides.update((slide.place, slide) for slide in self._list(record))
            elif record.kind == _Kind.SLIDE_LIST and record.instance == _NOTES:
                notes.update((slide.number, slide.place) for slide in self._list(record))
        return list(slides.values()), notes

    def _list(self, record: _Record) -> Iterator[_Slide]:
        slide: _Slide | None = None
        kind = 0
        for entry in self._records(record.start, record.end):
            if entry.kind == _Kind.SLIDE_PLACE:
                if slide is not None:
                    yield slide
                place, number = struct.unpack_from("<I8xI", self._data, entry.start)
                slide = _Slide(place, number)
            elif entry.kind == _Kind.TEXT_HEADER:
                kind = self._data[entry.start]
            elif slide is not None and (text := self._text(entry)) is not None:
                slide.texts.append(_Text(kind, text))
        if slide is not None:
            yield slide

    def texts(self, slide: _Slide) -> tuple[list[_Text], int, int]:
        """Return the texts of a slide, the number of its notes, and the number of its pictures."""
        record = self._record(self._places.get(slide.place, len(self._data)))
        if record is None:
            return slide.texts, 0, 0
        self._meter.add_unpacked(record.end - record.start)
        found: list[_Text] = []
        referred: set[int] = set()
        kind = note = pictures = 0
        for entry in self._walk(record.start, record.end, 1):
            match entry.kind:
                case _Kind.SLIDE:
                    (note,) = struct.unpack_from("<16xI", self._data, entry.start)
                case _Kind.SHAPE:
                    pictures += entry.instance == _PICTURE
                case _Kind.TEXT_HEADER:
                    kind = self._data[entry.start]
                case _Kind.TEXT_REFERENCE:
                    (index,) = struct.unpack_from("<I", self._data, entry.start)
                    if index < len(slide.texts) and index not in referred:
                        referred.add(index)
                        found.append(slide.texts[index])
                case _ if (text := self._text(entry)) is not None:
                    found.append(_Text(kind, text))
        missing = [text for index, text in enumerate(slide.texts) if index not in referred]
        return missing + found, note, pictures

    def _text(self, record: _Record) -> str | None:
        data = self._data[record.start : record.end]
        if record.kind == _Kind.TEXT_CHARS:
            text = data.decode("utf-16-le", "replace")
        elif record.kind == _Kind.TEXT_BYTES:
            text = data.decode("latin-1")
        else:
            return None
        # A star stands for the number of the slide or the date.
        return "" if text.strip() == "*" else text.replace("\r", "\n").replace("\v", "\n")

    def _record(self, at: int) -> _Record | None:
        if at + _HEADER.size > len(self._data):
            return None
        head, kind, length = _HEADER.unpack_from(self._data, at)
        start = at + _HEADER.size
        end = min(start + length, len(self._data))
        return _Record(kind, head >> 4, head & 0xF == _CONTAINER, start, end)

    def _records(self, at: int, end: int) -> Iterator[_Record]:
        """Yield the records between two places."""
        while at < end and (record := self._record(at)):
            yield record
            at = record.end

    def _walk(self, at: int, end: int, depth: int) -> Iterator[_Record]:
        """Yield the records between two places, and those inside them."""
        for record in self._records(at, end):
            yield record
            if record.is_container and depth < _MAX_DEPTH:
                yield from self._walk(record.start, min(record.end, end), depth + 1)
