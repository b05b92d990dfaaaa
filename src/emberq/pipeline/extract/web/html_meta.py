"""What an HTML page says about itself: its title, description, keywords and author."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from emberq.pipeline.extract.builder import DocumentBuilder, squeeze
from emberq.pipeline.extract.office.ooxml import Element, local_name
from emberq.pipeline.extract.text.jsondata import parse_json

#: Most characters of a title or a description. Headings may be nested, and each would contain all the text.
_LONGEST: Final = 10_000

#: The names of `meta` that are read, and the word before each; `og` are those of previews in social media.
_META: Final = {
    "og:title": "",
    "description": "",
    "og:description": "",
    "author": "Author: ",
    "keywords": "Keywords: ",
}
#: Names of the linked data (schema.org) of a page that are read, and the word before each.
_LINKED: Final = {"headline": "", "description": "", "keywords": "Keywords: "}

#: Most characters and elements of linked data that are parsed.
_LONGEST_LINKED: Final = 200_000
_MOST_LINKED: Final = 10


def write_meta(root: Element, build: DocumentBuilder) -> None:
    """Append a page's title as a heading, and what else it says about itself, each text once.

    Nothing is appended that the headings of the first level say.
    """
    # One walk for all of them, which takes time on a large page.
    found: dict[str, list[Element]] = {name: [] for name in ("h1", "title", "meta", "script")}
    for element in root.iter(*(f"{{*}}{name}" for name in found)):
        found[local_name(element)].append(element)
    said = {short_text(heading) for heading in found["h1"]}
    title = next(filter(_is_of_page, found["title"]), None)
    if title is not None and (text := short_text(title)) not in said:
        said.add(text)
        build.heading(text, 1)
    lines = []
    for before, value in [*_metas(found["meta"]), *_linked(found["script"])]:
        text = squeeze(value[:_LONGEST])
        if text and text not in said:
            said.add(text)
            lines.append(before + text)
    build.paragraph("\n".join(lines))


def _is_of_page(title: Element) -> bool:
    """Return whether a title is the page's, not that of a drawing."""
    parent = title.getparent()
    return parent is None or local_name(parent).lower() != "svg"


def _metas(elements: list[Element]) -> Iterator[tuple[str, str]]:
    found: dict[str, str] = {}
    for element in elements:
        name = (element.get("name") or element.get("property") or "").lower()
        if name in _META:
            found.setdefault(name, element.get("content") or "")
    return ((before, found.get(name, "")) for name, before in _META.items())


def _linked(scripts: list[Element]) -> Iterator[tuple[str, str]]:
    """Yield what the first objects of the page's linked data say; the data itself is no text."""
    linked = [script for script in scripts if "ld+json" in script.get("type", "").lower()]
    for script in linked[:_MOST_LINKED]:
        if len(script.text or "") > _LONGEST_LINKED:
            break
        try:
            value = parse_json(script.text or "")
        except ValueError:
            continue
        for thing in _things(value)[:_MOST_LINKED]:
            for name, before in _LINKED.items():
                if isinstance(text := thing.get(name), str):
                    yield before, text


def _things(value: Any) -> list[dict[str, Any]]:
    graph = value.get("@graph", [value]) if isinstance(value, dict) else value
    return [thing for thing in graph if isinstance(thing, dict)] if isinstance(graph, list) else []


def short_text(element: Element) -> str:
    """Return the text of an element on one line; of a very long text, the beginning."""
    pieces: list[str] = []
    length = 0
    for piece in element.itertext():
        pieces.append(piece[:_LONGEST])
        length += len(piece)
        if length > _LONGEST:
            break
    return squeeze("".join(pieces))
