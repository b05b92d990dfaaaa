"""The styles of a Word file: which are headings, and which number their paragraphs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple, TypeVar

from emberq.pipeline.extract.office.ooxml import Element, attribute, local_name

#: Outline levels of headings, as in the file; 9 is Word's level for body text.
OUTLINE_LEVELS: Final = frozenset("012345678")

#: The built-in names of heading styles.
_HEADING_NAME: Final = re.compile(r"heading ([1-9])", re.IGNORECASE)

#: Types of styles that no paragraph has.
_OTHER_TYPES: Final = frozenset({"character", "table"})

_Value = TypeVar("_Value")


class ListPlace(NamedTuple):
    """Where a paragraph or style stands in a list.

    Attributes:
        number: The id of the list (`numId`); empty if it is not given.
        level: Its level, from 0; None if it is not given.
    """

    number: str
    level: int | None


class Styles(NamedTuple):
    """What paragraph styles say, those on which a style is based included.

    Attributes:
        levels: The outline level of each style that is a heading; 1 is the highest.
        lists: The place in a list of each style that numbers its paragraphs.
    """

    levels: dict[str, int]
    lists: dict[str, ListPlace]

    @classmethod
    def of(cls, root: Element) -> Styles:
        """Return the styles of a part."""
        levels: dict[str, int] = {}
        lists: dict[str, ListPlace] = {}
        parents: dict[str, str] = {}
        for style in root.iterchildren("{*}style"):
            if attribute(style, "type") in _OTHER_TYPES:
                continue
            identity = attribute(style, "styleId")
            for child in style.iter("{*}name", "{*}basedOn", "{*}outlineLvl", "{*}numPr"):
                value = attribute(child, "val")
                match local_name(child):
                    case "name" if value.lower() == "title":
                        levels[identity] = 1
                    case "name" if found := _HEADING_NAME.fullmatch(value):
                        levels[identity] = int(found[1])
                    case "basedOn":
                        parents[identity] = value
                    case "outlineLvl" if value in OUTLINE_LEVELS:
                        levels.setdefault(identity, int(value) + 1)
                    case "numPr":
                        lists[identity] = list_place(child)
        return cls(_inherited(levels, parents), _inherited(lists, parents))


def list_place(properties: Element) -> ListPlace:
    """Return what an element `numPr` says."""
    number, level = "", None
    for child in properties:
        value = attribute(child, "val")
        match local_name(child):
            case "numId":
                number = value
            case "ilvl" if value in OUTLINE_LEVELS:
                level = int(value)
    return ListPlace(number, level)


def _inherited(own: Mapping[str, _Value], parents: Mapping[str, str]) -> dict[str, _Value]:
    """Return the value of each style that has one, or whose parents have one."""
    found: dict[str, _Value | None] = dict(own)
    for style in parents:
        chain: list[str] = []
        at = style
        while at not in found and at in parents and at not in chain[-1:]:
            chain.append(at)
            # Kept at once, so that a long or circular chain is walked once and not once for each style.
            found[at] = None
            at = parents[at]
        found.update(dict.fromkeys(chain, found.get(at)))
    return {style: value for style, value in found.items() if value is not None}
