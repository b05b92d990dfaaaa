"""The marks before the items of HTML lists: bullets, and the numbers that browsers show."""

from __future__ import annotations

import re
from typing import Final

from emberq.pipeline.extract.numerals import MOST_ROMAN, roman
from emberq.pipeline.extract.office.ooxml import Element, local_name

#: The mark of an item without a number.
BULLET: Final = "- "

#: The kinds of numbers by the attribute `type`, and by the style that means the same.
_STYLES: Final = {
    "lower-alpha": "a",
    "lower-latin": "a",
    "upper-alpha": "A",
    "upper-latin": "A",
    "lower-roman": "i",
    "upper-roman": "I",
    "decimal": "1",
}
_STYLE: Final = re.compile(r"list-style(?:-type)?\s*:\s*([a-z-]+)", re.IGNORECASE)
_NUMBER: Final = re.compile(r"\s*([+-]?[0-9]{1,9})")


class Numbering:
    """Counts the items of one list."""

    def __init__(self, items: Element) -> None:
        """Begin a list.

        Args:
            items: The element `ol`, or `ul`, whose items have no numbers.
        """
        self._is_ordered = local_name(items).lower() == "ol"
        self._kind = _kind(items) or "1"
        self._step = 1 if items.get("reversed") is None else -1
        first = 1
        if self._is_ordered and self._step < 0:
            first = sum(local_name(child).lower() == "li" for child in items)
        self._next = _number(items.get("start"), first)

    def mark(self, item: Element) -> str:
        """Return the mark of the next item, with a space after it."""
        if not self._is_ordered:
            return BULLET
        number = _number(item.get("value"), self._next)
        self._next = number + self._step
        return f"{written(number, _kind(item) or self._kind)}. "


def _kind(element: Element) -> str | None:
    kind = element.get("type")
    if kind in {"1", "a", "A", "i", "I"}:
        return str(kind)
    style = _STYLE.search(element.get("style", ""))
    return _STYLES.get(style[1].lower()) if style else None


def _number(text: str | None, default: int) -> int:
    found = _NUMBER.match(text or "")
    return int(found[1]) if found else default


def written(number: int, kind: str) -> str:
    """Return a number in its notation; in digits where the notation has no such number."""
    if kind in "aA" and number > 0:
        text = ""
        while number:
            number, letter = divmod(number - 1, 26)
            text = chr(ord("a") + letter) + text
    elif kind in "iI" and 0 < number <= MOST_ROMAN:
        text = roman(number)
    else:
        return str(number)
    return text.upper() if kind.isupper() else text
