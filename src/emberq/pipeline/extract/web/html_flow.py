"""The flow of an HTML page: its words are collected, and become a paragraph at each border of a block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias

from emberq.pipeline.extract.builder import squeeze
from emberq.pipeline.extract.office.ooxml import Element
from emberq.pipeline.extract.web.html_lists import BULLET, Numbering
from emberq.pipeline.extract.web.html_parse import Html

#: A line break inside a paragraph, until the paragraph is written; white space of the source is none.
BREAK: Final = "\v"

_HEADINGS: Final = {f"h{level}": level for level in range(1, 7)}

#: Elements that begin and end a paragraph; all others are parts of a line.
_BLOCKS: Final = frozenset(_HEADINGS).union(
    (
        *("address", "article", "aside", "blockquote", "body", "button", "caption", "center", "dd"),
        *("details", "dialog", "dir", "div", "dl", "dt", "fieldset", "figcaption", "figure", "footer"),
        *("form", "head", "header", "hr", "html", "legend", "li", "main", "menu", "nav", "ol", "optgroup"),
        *("option", "p", "pre", "search", "section", "select", "summary", "table", "tbody", "td"),
        *("textarea", "tfoot", "th", "thead", "tr", "ul"),
    )
)

#: Elements that contain much: a label on them names a part of the page.
_PARTS_OF_PAGE: Final = _BLOCKS - {"p", "td", "th", "li", "dd", "dt", "div", "figure"}

#: Most names of elements whose rules are kept; a file may invent any number of names.
_MOST_RULES: Final = 1000


class Sink(Protocol):
    """Takes the pieces of a page: a document's builder, or a cell of a table."""

    def heading(self, text: str, level: int) -> None:
        """Take a heading."""

    def paragraph(self, text: str, *, tight: bool = False) -> None:
        """Take a paragraph."""

    def table(self, rows: Iterable[Sequence[str]]) -> None:
        """Take a table."""


Start: TypeAlias = Callable[["Flow", Any], bool]
End: TypeAlias = Callable[["Flow", Any], None]


class Rule:
    """What an element does.

    Attributes:
        is_block: Whether it begins and ends a paragraph.
        level: Its level, if it is a heading.
        has_label: Whether an `aria-label` on it is written.
        start: Begins it, and returns whether its content follows.
        end: Ends it, if its content followed.
    """

    __slots__ = ("end", "has_label", "is_block", "level", "start")

    def __init__(self, name: str, start: Start | None = None, end: End | None = None) -> None:
        self.is_block = name in _BLOCKS
        self.level = _HEADINGS.get(name, 0)
        self.has_label = name not in _PARTS_OF_PAGE
        self.start = start
        self.end = end


class Rules(dict[object, Rule]):
    """The rules of elements by their tags, which may have a namespace and be in capitals."""

    def __init__(self, actions: Mapping[str, tuple[Start | None, End | None]]) -> None:
        super().__init__()
        self._actions = actions

    def __missing__(self, tag: object) -> Rule:
        name = str(tag).rpartition("}")[2].lower()
        rule = Rule(name, *self._actions.get(name, (None, None)))
        if len(self) < _MOST_RULES:
            self[tag] = rule
        return rule


class Page:
    """What the parts of a page share while they are written.

    Attributes:
        rules: What the elements do.
        html: The page.
        pictures: How many pictures have no text.
    """

    def __init__(self, rules: Rules, html: Html) -> None:
        self.rules = rules
        self.html = html
        self.pictures = 0
        self._seen: dict[str, None] = {}

    def is_new(self, text: str) -> bool:
        """Return whether a target or title is written for the first time."""
        if not text or text in self._seen:
            return False
        self._seen[text] = None
        return True

    def state(self) -> tuple[int, int]:
        """Return what `restore` needs to forget what is written from now on."""
        return len(self._seen), self.pictures

    def restore(self, state: tuple[int, int]) -> None:
        """Forget what has been written since `state`, because it is written again."""
        size, self.pictures = state
        while len(self._seen) > size:
            self._seen.popitem()


class Flow:
    """Walks a tree without recursion, and appends a paragraph at each border of a block.

    Attributes:
        pieces: The words of the paragraph that is collected.
        mark: What begins it, if it is the item of a list.
        tight: Whether it follows without an empty line.
        preformatted: In how many elements that keep their white space the walk is.
        quiet: In how many elements whose links have no targets in the text.
        lists: The lists around it.
        after_heading: What its links have in brackets, which is no part of a heading.
        begins: For each element that looks back at its words, the index of its first piece.
        reading: The readings of the word (ruby) that is collected.
        readings: The readings of the paragraph's words.
        is_blank: Whether nothing has been written.
    """

    def __init__(self, sink: Sink, page: Page, *, frames: int = 0) -> None:
        self.sink = sink
        self.page = page
        self.frames = frames
        self.pieces: list[str] = []
        self._level = 0
        self.mark = ""
        self.tight = False
        self.preformatted = 0
        self.quiet = 0
        self.lists: list[Numbering] = []
        self.after_heading: list[str] = []
        self.begins: list[int] = []
        self.reading: list[str] = []
        self.readings: list[str] = []
        self.is_blank = True

    def write(self, root: Element) -> None:  # noqa: C901, PLR0912 - a call for each element would cost a tenth
        """Append the text of an element, without what follows it."""
        pieces = self.pieces
        has_labels, rules = self.page.html.has_labels, self.page.rules
        ways: list[Iterator[Element]] = [iter((root,))]
        inside: list[tuple[Element, Rule]] = []
        while True:
            element = next(ways[-1], None)
            if element is not None:
                rule = rules[element.tag]
                if rule.is_block:
                    if pieces:
                        self.flush()
                    self._level = rule.level
                if has_labels and rule.has_label and (label := element.get("aria-label")):
                    self.words(label)
                goes_in = rule.start is None or rule.start(self, element)
                if goes_in:
                    if text := element.text:
                        pieces.append(text)
                    if len(element):
                        ways.append(iter(element))
                        inside.append((element, rule))
                        continue
            else:
                ways.pop()
                if not inside:
                    break
                element, rule = inside.pop()
                goes_in = True
            if goes_in:
                if rule.end is not None:
                    rule.end(self, element)
                if rule.is_block:
                    if pieces:
                        self.flush()
                    self._level = 0
            if inside and (text := element.tail):
                pieces.append(text)
        self.flush()
        if readings := [*self.readings, *self.reading]:
            self.sink.paragraph(", ".join(readings))

    def words(self, text: str) -> None:
        """Append words that are no part of the words beside them."""
        if text := text.strip():
            self.pieces.append(f" {text} ")

    def flush(self) -> None:
        """Append the collected words as a paragraph, heading or item."""
        text = "".join(self.pieces)
        self.pieces.clear()
        if self.preformatted:
            text = text.replace(BREAK, "\n")
        elif BREAK in text:
            text = "\n".join(" ".join(line.split()) for line in text.split(BREAK))
        else:
            text = " ".join(text.split())
        if not text or text.isspace():
            return
        if self.readings:
            text = f"{text} ({', '.join(dict.fromkeys(self.readings))})"
            self.readings.clear()
        self.is_blank = False
        if self._level:
            self.sink.heading(self.mark + text.strip() if self.mark != BULLET else text, self._level)
        elif self.mark:
            self.sink.paragraph(self.mark + text.strip(), tight=True)
        else:
            self.sink.paragraph(text, tight=self.tight)
        self.mark = ""
        self.tight = False
        if self.after_heading:
            text = " ".join(self.after_heading)
            self.after_heading.clear()
            self.sink.paragraph(text)

    def aside(self, text: str, begin: int) -> None:
        """Append in brackets what the pieces since `begin` do not say, once in a page."""
        text = squeeze(text)
        if text not in "".join(self.pieces[begin:]) and self.page.is_new(text):
            if self._level:
                self.after_heading.append(f"({text})")
            else:
                self.pieces.append(f" ({text})")
