"""What the campaign uploads: texts whose every line says which file, edition and line it is."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

__all__ = ["Line", "read_lines", "write_document"]

_LINE = re.compile(r"Record (\w+) edition (\d+) line (\d+) of (\d+):")
#: Words to fill lines with; what they mean is of no importance.
_WORDS = (
    "amber",
    "basalt",
    "cobalt",
    "delta",
    "ember",
    "fjord",
    "garnet",
    "harbour",
    "island",
    "jasper",
    "kelp",
    "lagoon",
    "marsh",
    "nectar",
    "orchid",
    "pebble",
    "quartz",
    "river",
    "saffron",
    "tundra",
)
#: Words of a line; with the marker some 25 tokens, so that a chunk of 64 holds two lines.
_WORDS_PER_LINE = 8


@dataclass(frozen=True, slots=True)
class Line:
    """A line's marker, as it is found again in chunks, search results and texts.

    Attributes:
        file: The file's name.
        edition: Which upload under that name it belongs to; later ones have higher numbers.
        number: 1 for the first line.
        total: How many lines the edition has.
    """

    file: str
    edition: int
    number: int
    total: int


def write_document(file: str, edition: int, *, lines: int, seed: str) -> bytes:
    """Return the text of one edition of a file; another seed gives other words."""
    choose = random.Random(f"{seed}/{file}/{edition}")
    return "\n\n".join(
        f"Record {file} edition {edition} line {number} of {lines}:"
        f" {' '.join(choose.choices(_WORDS, k=_WORDS_PER_LINE))}."
        for number in range(1, lines + 1)
    ).encode()


def read_lines(text: str) -> list[Line]:
    """Return the markers in a text, in their order, repetitions included."""
    return [Line(file, int(e), int(n), int(total)) for file, e, n, total in _LINE.findall(text)]
