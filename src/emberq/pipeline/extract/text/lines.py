"""The lines of a text that is kept unchanged, and the segments that they make."""

from __future__ import annotations

from emberq.pipeline.document import Segment, SegmentKind


class Lines:
    """The lines of a text, and the index at which each starts."""

    def __init__(self, text: str) -> None:
        """Part a text that `clean` returned."""
        self.lines = text.split("\n")
        self.starts = [0]
        for line in self.lines:
            self.starts.append(self.starts[-1] + len(line) + 1)

    def __len__(self) -> int:
        """Return the number of lines."""
        return len(self.lines)

    def segment(self, kind: SegmentKind, first: int, after: int, level: int = 0) -> Segment:
        """Return the segment of the lines from `first` up to, but not including, `after`."""
        return Segment(kind, self.starts[first], self.starts[after] - 1, None, level)

    def is_blank(self, number: int) -> bool:
        """Return whether a line is blank; lines after the last one count as blank."""
        return number >= len(self.lines) or not self.lines[number].strip()

    def is_indented(self, number: int) -> bool:
        """Return whether a line begins with white space and is not blank."""
        return not self.is_blank(number) and self.lines[number][0].isspace()
