"""Figures of splitting: cuts inside sentences, small chunks, and speed, over the files of a folder.

    .venv/bin/python bench/splitting.py FOLDER [CHUNK_SIZE]

A cut counts as inside a sentence if what is before it is not the end of a segment or row and has no mark of
an end. Files that cannot be read are left out.
"""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from emberq.errors import FileError
from emberq.models.embedder import Embedder
from emberq.models.files import find_model
from emberq.pipeline.document import Chunk, Document, SegmentKind
from emberq.pipeline.extract.detect import detect
from emberq.pipeline.extract.read import extract
from emberq.pipeline.split import split

#: A mark at the end of a sentence or clause, in the scripts of the measured files, and what may close it.
_END = re.compile("[.!?…:;。！？؟।۔][\"'”’)\\]»」』]*$")  # noqa: RUF001 - full-width forms
#: Chunks of fewer tokens are small.
_SMALL = 5


def main(folder: str, chunk_size: int = 200) -> None:
    """Print the figures of each suffix."""
    tokenizer = Embedder.load(find_model()).tokenizer
    figures: dict[str, Counter[str]] = {}
    seconds = 0.0
    size = 0
    for path in sorted(Path(folder).rglob("*.*")):
        try:
            document = extract(path, media_type=detect(path, name=path.name))
        except (FileError, OSError):
            continue
        started = time.process_time()
        chunks = split(document, tokenizer, chunk_size=chunk_size, chunk_overlap=chunk_size // 6)
        seconds += time.process_time() - started
        size += len(document.text.encode())
        figures.setdefault(path.suffix, Counter()).update(_count(document, chunks))
    for suffix, counted in sorted(figures.items()):
        print(suffix, dict(counted))
    if seconds:
        print(f"{size / seconds / 1e6:.2f} MB of text a second")


def _count(document: Document, chunks: Sequence[Chunk]) -> dict[str, int]:
    ends = {segment.end: segment.kind for segment in document.segments}
    tables = [segment for segment in document.segments if segment.kind is SegmentKind.TABLE]
    inside = 0
    for chunk in chunks[:-1]:
        in_row = any(
            table.start < chunk.end < table.end and document.text[chunk.end] == "\n" for table in tables
        )
        inside += chunk.end not in ends and not in_row and not _END.search(chunk.text[-6:])
    return {
        "files": 1,
        "chunks": len(chunks),
        "cuts inside sentences": inside,
        "small chunks": sum(chunk.tokens < _SMALL for chunk in chunks),
    }


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
