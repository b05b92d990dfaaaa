"""Roman numerals, as lists of web pages, Word and OpenDocument show them."""

from __future__ import annotations

from typing import Final

#: The largest number that the numerals can write.
MOST_ROMAN: Final = 3999
_SIGNS: Final = (
    *((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"), (40, "xl")),
    *((10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i")),
)


def roman(number: int) -> str:
    """Return a number from 1 to `MOST_ROMAN` in lower-case Roman numerals."""
    text = ""
    for value, sign in _SIGNS:
        times, number = divmod(number, value)
        text += sign * times
    return text
