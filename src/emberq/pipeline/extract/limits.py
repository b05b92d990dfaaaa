"""The limits on what one file may become, and the meter that counts against them while the file is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from emberq.errors import ArchiveBomb, FileTooLarge
from emberq.pipeline.extract import media

_MIB: Final = 1 << 20

#: Characters that any file may have: more than the Bible (4.3 million).
_BASE_CHARACTERS: Final = 5_000_000
#: Characters per byte of a packed file. Office files and PDF unpack to 10 to 50 times their size.
_PACKED_CHARACTERS: Final = 64
#: Characters per byte of a plain file: JSON grows most, as each value is written with its path.
_PLAIN_CHARACTERS: Final = 16
#: Most characters of any file. PostgreSQL takes a gigabyte; most of a text's characters need 1 to 3 bytes.
_MAX_CHARACTERS: Final = 300_000_000
#: Segments that any file may have, and characters per further one. A segment costs 150 bytes of memory.
_BASE_SEGMENTS: Final = 100_000
_CHARACTERS_PER_SEGMENT: Final = 20

#: Most unpacked bytes of all parts of a container, and of one part.
_UNPACKED_BYTES: Final = 250 * _MIB
_PART_BYTES: Final = 100 * _MIB

#: The formats that are not packed.
_PLAIN: Final = frozenset(
    (
        *(media.HTML, media.MARKDOWN, media.CSV, media.TEXT, media.JSON, media.JSON_LINES),
        *(
            media.EML,
            media.MBOX,
            media.MHTML,
            media.ICALENDAR,
            media.RTF,
            media.NOTEBOOK,
            media.VTT,
            media.SRT,
            media.RST,
        ),
        *(media.XML, media.DOCBOOK, media.FB2, media.JATS, media.SVG, media.ORG, media.LATEX, media.SOURCE),
    )
)

#: What to do about a file that has more than its budget allows.
BUDGET_HINT: Final = "Split the file, or raise the setting file_budget."


@dataclass(frozen=True, slots=True)
class Limits:
    """What one file may become while it is read, its attachments included.

    Attributes:
        characters: Most characters of its text.
        segments: Most segments.
        unpacked_bytes: Most unpacked bytes of all parts of containers; each reading of a part counts.
        part_bytes: Most unpacked bytes of one part.
        ocr_seconds: Most processor time for OCR; 0 if pictures are left out.
        hidden: Whether hidden sheets and slides become text.
    """

    characters: int = _MAX_CHARACTERS
    segments: int = _BASE_SEGMENTS + _MAX_CHARACTERS // _CHARACTERS_PER_SEGMENT
    unpacked_bytes: int = _UNPACKED_BYTES
    part_bytes: int = _PART_BYTES
    ocr_seconds: float = 0.0
    hidden: bool = True

    @classmethod
    def of(
        cls,
        media_type: str,
        size: int,
        *,
        factor: float = 1.0,
        ocr_seconds: float = 0.0,
        hidden: bool = True,
    ) -> Self:
        """Return the limits of a file.

        Args:
            media_type: Its media type, as `detect` returns it.
            size: Its size, in bytes.
            factor: The setting file_budget.
            ocr_seconds: Most processor time for OCR.
            hidden: Whether hidden sheets and slides become text.
        """
        per_byte = _PLAIN_CHARACTERS if media_type in _PLAIN else _PACKED_CHARACTERS
        characters = min(int((_BASE_CHARACTERS + per_byte * size) * factor), _MAX_CHARACTERS)
        return cls(
            characters=characters,
            segments=_BASE_SEGMENTS + characters // _CHARACTERS_PER_SEGMENT,
            unpacked_bytes=int(_UNPACKED_BYTES * factor),
            part_bytes=int(_PART_BYTES * factor),
            ocr_seconds=ocr_seconds,
            hidden=hidden,
        )


class Meter:
    """Counts what a file has become so far, and raises an error once it is more than a limit allows.

    The readers of a file, of its parts and of its attachments share one meter.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._characters = 0
        self._segments = 0
        self._unpacked = 0
        self._ocr_seconds = 0.0

    @property
    def has_ocr_left(self) -> bool:
        """Whether there is processor time left for OCR."""
        return self._ocr_seconds < self.limits.ocr_seconds

    def add_ocr(self, seconds: float) -> None:
        """Count processor time of OCR, which ends when it is used up."""
        self._ocr_seconds += seconds

    def has_room(self, characters: int) -> bool:
        """Return whether so many more characters are allowed."""
        return self._characters + characters <= self.limits.characters

    def expect_text(self, characters: int) -> None:
        """Check that so many more characters are allowed; they are counted once they are appended.

        Raises:
            FileTooLarge: If they are not.
        """
        most = self.limits.characters
        if not self.has_room(characters):
            raise FileTooLarge(
                f"The file has more than {most:,} characters of text, the most for its size.",
                hint=BUDGET_HINT,
            )

    def add_text(self, characters: int) -> None:
        """Count characters of the text.

        Raises:
            FileTooLarge: If there are too many.
        """
        self.expect_text(characters)
        self._characters += characters

    def add_segment(self) -> None:
        """Count a segment.

        Raises:
            FileTooLarge: If there are too many.
        """
        self._segments += 1
        most = self.limits.segments
        if self._segments > most:
            raise FileTooLarge(
                f"The file has more than {most:,} headings, paragraphs and tables, the most for its size.",
                hint=BUDGET_HINT,
            )

    def add_unpacked(self, size: int) -> None:
        """Count unpacked bytes of a container.

        Raises:
            ArchiveBomb: If there are too many.
        """
        self._unpacked += size
        most = self.limits.unpacked_bytes
        if self._unpacked > most:
            raise ArchiveBomb(f"The file unpacks to more than {most >> 20:,} MiB.", hint=BUDGET_HINT)
