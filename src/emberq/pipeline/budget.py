"""The budget of a file: what reading, splitting and embedding it may take, by its kind and size.

The kind is told by the first bytes, before anything parses the file; its detected media type sets the finer
limits (`emberq.pipeline.extract.limits`) inside the sandbox. Progress never extends a budget.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from emberq.errors import JobTimeout
from emberq.pipeline.extract.kinds.signatures import is_tar
from emberq.pipeline.extract.limits import BUDGET_HINT
from emberq.pipeline.extract.packed.ole import OLE_MAGIC

_MIB: Final = 1 << 20

#: Seconds of processor time that any file gets. A genuine file of a hundred kilobytes needs less than one.
_BASE_CPU_SECONDS: Final = 10.0
#: Further seconds per mebibyte of a packed file (Office, EPUB, PDF) and of a plain one.
_PACKED_CPU_SECONDS: Final = 4.0
_PLAIN_CPU_SECONDS: Final = 1.0
#: Most seconds of processor time of any file.
_MAX_CPU_SECONDS: Final = 1200.0
#: The wall-clock time, as a multiple of the processor time: other work may have most of the machine.
_WALL_FACTOR: Final = 10.0

#: Memory that any file gets, bytes per byte of the file, and the most memory of any file.
_BASE_MEMORY: Final = 512 * _MIB
_MEMORY_PER_BYTE: Final = 16
_MAX_MEMORY: Final = 2048 * _MIB

#: Seconds of processor time and memory for OCR: a page takes one to four seconds, and a third of a gigabyte.
_OCR_CPU_SECONDS: Final = 300.0
_OCR_MEMORY: Final = 512 * _MIB
#: The first bytes of the pictures that it reads.
_PICTURES: Final = (b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM", b"RIFF")

#: Chunks that any file gets, and the characters per further one. Smaller chunks than these are of headings
#: with hardly any text between them.
_BASE_CHUNKS: Final = 5_000
_CHARACTERS_PER_CHUNK: Final = 40
#: Most chunks of any file; the default model embeds about so many in an hour.
_MAX_CHUNKS: Final = 300_000

#: Seconds of processor time for splitting any text, and per million characters; hostile text needs up to 3.
_BASE_SPLIT_SECONDS: Final = 10.0
_SPLIT_SECONDS_PER_MILLION: Final = 10.0

#: Seconds of processor time for embedding any text, and per chunk. The default model needs a hundredth of
#: one; a large model and long chunks need a hundred times as much.
_BASE_EMBED_SECONDS: Final = 60.0
_EMBED_SECONDS_PER_CHUNK: Final = 5.0

#: How packed files begin: ZIP, compound files, gzip, XZ and bzip2.
_PACKED: Final = (b"PK", OLE_MAGIC, b"\x1f\x8b", b"\xfd7zXZ", b"BZh")

#: Bytes at the beginning in which a PDF's mark is looked for.
_HEAD: Final = 1024


@dataclass(frozen=True, slots=True)
class Budget:
    """What one attempt at a file may take.

    Attributes:
        cpu_seconds: Most processor time for reading it, without OCR.
        timeout_seconds: Most wall-clock time for reading it.
        memory_bytes: Most memory for reading it, besides what its process has before.
        ocr_seconds: Most processor time for OCR; 0 if there is none.
        factor: The setting file_budget; it multiplies every other limit, also those of `Limits.of`.
    """

    cpu_seconds: float
    timeout_seconds: float
    memory_bytes: int
    ocr_seconds: float
    factor: float

    @classmethod
    def of(cls, path: Path, *, factor: float = 1.0, ocr: bool = False) -> Self:
        """Return the budget of a file.

        Args:
            path: The file.
            factor: The setting file_budget.
            ocr: Whether pictures and scans are read by OCR.

        Raises:
            OSError: If the file cannot be read.
        """
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
            size = stream.seek(0, 2)
        further = _cpu_seconds_per_mebibyte(head) * size / _MIB
        seconds = factor * min(_BASE_CPU_SECONDS + further, _MAX_CPU_SECONDS)
        memory = factor * min(_BASE_MEMORY + _MEMORY_PER_BYTE * size, _MAX_MEMORY)
        ocr_seconds = 0.0
        if ocr and (b"%PDF-" in head or head.startswith(_PICTURES)):
            ocr_seconds = factor * _OCR_CPU_SECONDS
            memory += _OCR_MEMORY
        return cls(seconds, _WALL_FACTOR * (seconds + ocr_seconds), int(memory), ocr_seconds, factor)

    def max_chunks(self, characters: int, *, chunk_size: int) -> int:
        """Return the most chunks of a text.

        Args:
            characters: The length of the text.
            chunk_size: Most tokens of a chunk; each has a character or more, and half of them may overlap.
        """
        per_chunk = max(1, min(_CHARACTERS_PER_CHUNK, chunk_size // 2))
        return int(self.factor * min(_BASE_CHUNKS + characters // per_chunk, _MAX_CHUNKS))

    def for_splitting(self, characters: int) -> TimeBudget:
        """Return the time for splitting a text, which begins now."""
        seconds = _BASE_SPLIT_SECONDS + _SPLIT_SECONDS_PER_MILLION * characters / 1_000_000
        return TimeBudget("Splitting the text", self.factor * seconds)

    def for_embedding(self, chunks: int) -> TimeBudget:
        """Return the time for embedding chunks, which begins now."""
        seconds = _BASE_EMBED_SECONDS + _EMBED_SECONDS_PER_CHUNK * chunks
        return TimeBudget("Embedding the chunks", self.factor * seconds)


class TimeBudget:
    """The processor time of one stage, counted in the thread that makes it."""

    def __init__(self, stage: str, seconds: float) -> None:
        self._stage = stage
        self._seconds = seconds
        self._until = time.thread_time() + seconds

    def check(self) -> None:
        """Check that there is time left.

        Raises:
            JobTimeout: If there is none.
        """
        if time.thread_time() > self._until:
            raise JobTimeout(
                f"{self._stage} took more than its {self._seconds:.0f} seconds of processor time.",
                hint=BUDGET_HINT,
            )


def _cpu_seconds_per_mebibyte(head: bytes) -> float:
    is_packed = head.startswith(_PACKED) or b"%PDF-" in head or is_tar(head)
    return _PACKED_CPU_SECONDS if is_packed else _PLAIN_CPU_SECONDS
