"""The numbers and bullets of Word's lists: counts the paragraphs and writes what Word shows before them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from emberq.pipeline.extract.numerals import MOST_ROMAN, roman
from emberq.pipeline.extract.office.ooxml import Element, attribute, local_name
from emberq.pipeline.extract.word.docx_styles import ListPlace, Styles

#: Levels of a list.
_LEVELS: Final = 9

#: Bullets that say something; all others become a dash.
_SPEAKING_BULLETS: Final = frozenset("☐☑☒✓✔✗✘")

#: Largest number that is written in another way than with digits.
_LARGEST: Final = MOST_ROMAN

_CJK_DIGITS: Final = "〇一二三四五六七八九"
_CYRILLIC: Final = "абвгдежзиклмнопрстуфхцчшщэюя"


class _Level(NamedTuple):
    """One level of a list.

    Attributes:
        start: Its first number.
        format: The way its number is written, e.g. `lowerRoman`.
        text: What is shown, with `%1` for the number of the first level.
        restart: The level, from 1, whose paragraphs let it start again; 0 for none.
        legal: Whether the numbers of all levels are written with digits.
    """

    start: int = 1
    format: str = "decimal"
    text: str = ""
    restart: int | None = None
    legal: bool = False


class _List(NamedTuple):
    """A list that paragraphs refer to: the definition that it follows, and what it changes."""

    definition: str
    starts: dict[int, int]
    levels: dict[int, _Level]


class Numbering:
    """The lists of a document, and how far each has counted."""

    def __init__(self, root: Element | None, styles: Styles) -> None:
        """Read the lists.

        Args:
            root: The numbering part, if there is one.
            styles: The document's styles.
        """
        self._styles = styles
        self._definitions: dict[str, dict[int, _Level]] = {}
        self._lists: dict[str, _List] = {}
        #: The level of a definition that belongs to a style.
        self._style_levels: dict[tuple[str, str], int] = {}
        self._counts: dict[str, list[int | None]] = {}
        self._started: set[tuple[str, int]] = set()
        links: dict[str, str] = {}
        for element in root if root is not None else ():
            identity = attribute(element, f"{local_name(element)}Id")
            match local_name(element):
                case "abstractNum":
                    self._definitions[identity] = self._read_levels(element, identity)
                    for link in element.iterchildren("{*}numStyleLink"):
                        links[identity] = attribute(link, "val")
                case "num":
                    self._lists[identity] = self._read_list(element)
        for identity, style in links.items():
            # The definition is that of another list, which the style names.
            place = styles.lists.get(style)
            target = self._lists.get(place.number) if place else None
            if target:
                self._definitions[identity] = self._definitions.get(target.definition, {})

    def _read_levels(self, definition: Element, identity: str) -> dict[int, _Level]:
        levels: dict[int, _Level] = {}
        for element in definition.iterchildren("{*}lvl"):
            at = _number(attribute(element, "ilvl"), 0)
            levels[at] = _read_level(element)
            for style in element.iterchildren("{*}pStyle"):
                self._style_levels[identity, attribute(style, "val")] = at
        return levels

    def _read_list(self, element: Element) -> _List:
        definition = next((attribute(child, "val") for child in element.iterchildren("{*}abstractNumId")), "")
        starts: dict[int, int] = {}
        levels: dict[int, _Level] = {}
        for override in element.iterchildren("{*}lvlOverride"):
            at = _number(attribute(override, "ilvl"), 0)
            for child in override:
                if local_name(child) == "startOverride":
                    starts[at] = _number(attribute(child, "val"), 1)
                elif local_name(child) == "lvl":
                    levels[at] = _read_level(child)
        return _List(definition, starts, levels)

    def label(self, place: ListPlace | None, style: str) -> str:
        """Count a paragraph and return what is shown before it; an empty text if it is in no list.

        Args:
            place: What the paragraph itself says.
            style: The id of its style.
        """
        of_style = self._styles.lists.get(style)
        number = (place.number if place else "") or (of_style.number if of_style else "")
        listed = self._lists.get(number)
        if listed is None:
            return ""
        at = place.level if place else None
        if at is None:
            at = self._style_levels.get((listed.definition, style), of_style.level if of_style else None) or 0
        levels = {**self._definitions.get(listed.definition, {}), **listed.levels}
        level = levels.get(at)
        if level is None:
            return ""
        counts = self._count(number, listed, levels, at)
        if level.format == "bullet":
            return level.text if level.text in _SPEAKING_BULLETS else "-"
        return _LABEL_NUMBER.sub(
            lambda found: _shown(found[1], levels, counts, legal=level.legal), level.text
        ).strip()

    def _count(self, number: str, listed: _List, levels: dict[int, _Level], at: int) -> list[int | None]:
        """Count a paragraph of a list; lists with one definition count together."""
        counts = self._counts.setdefault(listed.definition, [None] * _LEVELS)
        count = counts[at]
        if at in listed.starts and (number, at) not in self._started:
            counts[at] = listed.starts[at]
        else:
            counts[at] = levels[at].start if count is None else count + 1
        self._started.add((number, at))
        for lower in range(at + 1, _LEVELS):
            restart = levels[lower].restart if lower in levels else None
            if at < (lower if restart is None else restart):
                counts[lower] = None
        return counts


_LABEL_NUMBER: Final = re.compile("%([1-9])")


def _shown(digit: str, levels: dict[int, _Level], counts: list[int | None], *, legal: bool) -> str:
    at = int(digit) - 1
    level = levels.get(at, _Level())
    count = counts[at]
    return written(level.start if count is None else count, "decimal" if legal else level.format)


def _read_level(element: Element) -> _Level:
    values = {local_name(child): attribute(child, "val", "1") for child in element}
    return _Level(
        start=_number(values.get("start", ""), 1),
        format=values.get("numFmt", "decimal"),
        text="" if values.get("numFmt") == "none" else values.get("lvlText", ""),
        restart=_number(values["lvlRestart"], 0) if "lvlRestart" in values else None,
        legal=values.get("isLgl", "0") not in {"0", "false"},
    )


def _number(text: str, default: int) -> int:
    return int(text) if text.isdecimal() and len(text) < 9 else default  # noqa: PLR2004 - no list is longer


def written(number: int, way: str) -> str:
    """Return a number written in a way of Word's lists, e.g. `lowerRoman`."""
    write = _WAYS.get(way)
    return write(number) if write and 0 < number <= _LARGEST else str(number)


def _letters(alphabet: str) -> Callable[[int], str]:
    def write(number: int) -> str:
        times, at = divmod(number - 1, len(alphabet))
        return alphabet[at] * (times + 1)

    return write


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number % 100 // 10 == 1 else ending}"


def _cjk(number: int) -> str:
    if number >= 100:  # noqa: PLR2004 - larger ones are rare
        return "".join(_CJK_DIGITS[int(digit)] for digit in str(number))
    tens, ones = divmod(number, 10)
    return f"{_CJK_DIGITS[tens] if tens > 1 else ''}{'十' if tens else ''}{_CJK_DIGITS[ones] if ones else ''}"


def _circled(number: int) -> str:
    return chr(0x2460 + number - 1) if number <= 20 else str(number)  # noqa: PLR2004 - Unicode has twenty


_LATIN: Final = "abcdefghijklmnopqrstuvwxyz"
_WAYS: Final[dict[str, Callable[[int], str]]] = {
    "decimalZero": lambda number: f"{number:02d}",
    "upperRoman": lambda number: roman(number).upper(),
    "lowerRoman": roman,
    "upperLetter": _letters(_LATIN.upper()),
    "lowerLetter": _letters(_LATIN),
    "ordinal": _ordinal,
    "numberInDash": lambda number: f"- {number} -",
    "russianUpper": _letters(_CYRILLIC.upper()),
    "russianLower": _letters(_CYRILLIC),
    "decimalEnclosedCircle": _circled,
    "decimalEnclosedCircleChinese": _circled,
    **dict.fromkeys(
        (
            "chineseCounting",
            "chineseCountingThousand",
            "japaneseCounting",
            "ideographDigital",
            "koreanCounting",
        ),
        _cjk,
    ),
}
