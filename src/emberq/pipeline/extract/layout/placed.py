"""Lines of text at their places on a page, as PDF and OCR have them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

#: Left, bottom, right and top of a box, in points or pixels, upwards.
Box: TypeAlias = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a page, or a part of one.

    Attributes:
        text: Its text.
        left: Where it begins, in points.
        bottom: Its lower edge, in points, upwards.
        right: Where it ends.
        top: Its upper edge.
        size: The height of its letters, in points.
        turned: Quarter turns, anticlockwise, from upright; the edges are those seen in this direction.
        start: Index of its first character among the page's; -1 if it is not from the page's content.
        end: Index of its last character.
        level: Its level if it is a heading by the outline; 0 if that says nothing of it.
    """

    text: str
    left: float
    bottom: float
    right: float
    top: float
    size: float
    turned: int = 0
    start: int = -1
    end: int = -1
    level: int = 0

    @property
    def middle(self) -> float:
        """The height of its middle."""
        return (self.top + self.bottom) / 2
