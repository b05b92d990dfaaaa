"""What each element of HTML does to the flow of the page."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final

from lxml import etree

from emberq.pipeline.extract.builder import squeeze
from emberq.pipeline.extract.office.ooxml import Element, attribute, local_name
from emberq.pipeline.extract.web import mathml
from emberq.pipeline.extract.web.html_flow import BREAK, End, Flow, Rule, Rules, Start
from emberq.pipeline.extract.web.html_lists import BULLET, Numbering
from emberq.pipeline.extract.web.html_parse import parse_text
from emberq.pipeline.extract.web.html_tables import data_rows

#: Parts of a line that are separate words.
_WORDS: Final = frozenset(("label", "svg", "text", "desc", "video", "audio", "object", "canvas"))

#: Elements whose content no browser shows.
_SILENT: Final = frozenset(("script", "style", "rp", "datalist"))

#: Targets of links that are of use outside the page, and most characters of one.
_TARGETS: Final = ("http://", "https://", "mailto:", "tel:", "ftp://")
_LONGEST_TARGET: Final = 150

#: Most characters of the sign of a footnote.
_LONGEST_SIGN: Final = 4

#: Most levels of pages inside pages (`srcdoc`), and most characters of a `noscript` that is read.
_MAX_FRAMES: Final = 3
_SMALL_NOSCRIPT: Final = 1000

#: Controls of a form whose value is not text, is not shown, or is secret.
_NO_VALUE: Final = frozenset(("hidden", "password", "file", "checkbox", "radio", "image", "color", "range"))


class _Cell:
    """Collects what is in a cell as one line."""

    def __init__(self) -> None:
        self.pieces: list[str] = []

    def heading(self, text: str, _level: int) -> None:
        self.pieces.append(text)

    def paragraph(self, text: str, *, tight: bool = False) -> None:
        del tight
        self.pieces.append(text)

    def table(self, rows: Iterable[Sequence[str]]) -> None:
        self.pieces.extend(" ".join(row) for row in rows)


# What begins an element returns whether its content follows; what ends it runs after that.


def _skip(_flow: Flow, _element: Element) -> bool:
    return False


def _entity(flow: Flow, element: Element) -> bool:
    flow.pieces.append(html.unescape(element.text))
    return False


def _line_break(flow: Flow, _element: Element) -> bool:
    flow.pieces.append(BREAK)
    return False


def _space(flow: Flow, _element: Element) -> bool:
    flow.pieces.append(" ")
    return True


def _end_space(flow: Flow, _element: Element) -> None:
    flow.pieces.append(" ")


def _preformatted(flow: Flow, _element: Element) -> bool:
    flow.preformatted += 1
    return True


def _end_preformatted(flow: Flow, _element: Element) -> None:
    flow.flush()
    flow.preformatted -= 1


def _title(_flow: Flow, element: Element) -> bool:
    """Write the title of a drawing; the title of the page is written elsewhere."""
    parent = element.getparent()
    return parent is not None and local_name(parent).lower() == "svg"


def _template(_flow: Flow, element: Element) -> bool:
    """Write a template only if the browser shows it without a script."""
    return element.get("shadowrootmode") is not None


def _quote(flow: Flow, _element: Element) -> bool:
    flow.pieces.append('"')
    return True


def _end_quote(flow: Flow, _element: Element) -> None:
    flow.pieces.append('"')


def _quiet(flow: Flow, _element: Element) -> bool:
    flow.quiet += 1
    return True


def _end_quiet(flow: Flow, _element: Element) -> None:
    flow.quiet -= 1


def _items(flow: Flow, element: Element) -> bool:
    flow.lists.append(Numbering(element))
    return True


def _end_items(flow: Flow, _element: Element) -> None:
    flow.flush()
    flow.lists.pop()
    flow.mark = ""


def _item(flow: Flow, element: Element) -> bool:
    flow.mark = flow.lists[-1].mark(element) if flow.lists else BULLET
    return True


def _end_item(flow: Flow, _element: Element) -> None:
    flow.flush()
    flow.mark = ""


def _definition(flow: Flow, _element: Element) -> bool:
    flow.tight = True
    return True


def _table(flow: Flow, element: Element) -> bool:
    """Write a table of data; the parts of any other table are written as parts of the page."""
    state = flow.page.state()
    rows = data_rows(element, partial(_cell, flow))
    if not rows:
        flow.page.restore(state)
        return True
    for caption in element.iterchildren("{*}caption", "caption"):
        if text := _cell(flow, caption):
            flow.sink.paragraph(text)
    flow.sink.table(rows)
    flow.is_blank = False
    flow.mark = ""
    return False


def _cell(flow: Flow, element: Element) -> str:
    cell = _Cell()
    Flow(cell, flow.page, frames=flow.frames).write(element)
    return squeeze(" ".join(cell.pieces))


def _picture(flow: Flow, element: Element) -> bool:
    words = squeeze(element.get("alt") or "")
    title = squeeze(element.get("title") or "")
    if title and title != words:
        words = f"{words} ({title})" if words else title
    if words:
        flow.words(words)
    elif element.get("alt") is None:
        flow.page.pictures += 1
    return False


def _begin(flow: Flow, _element: Element) -> bool:
    flow.begins.append(len(flow.pieces))
    return True


def _end_link(flow: Flow, element: Element) -> None:
    begin = flow.begins.pop()
    target = element.get("href")
    if target is None:
        return
    if title := element.get("title"):
        flow.aside(title, begin)
    if target.startswith(_TARGETS):
        if not flow.quiet:
            flow.aside(_shown_target(target), begin)
    elif flow.page.html.has_notes and "#" in target and _is_sign(flow, element, begin):
        flow.pieces[begin:] = [f"[{''.join(flow.pieces[begin:]).strip()}]"]


def _is_sign(flow: Flow, link: Element, begin: int) -> bool:
    """Return whether a link inside the page is the sign of a footnote, such as a raised 1."""
    sign = "".join(flow.pieces[begin : begin + _LONGEST_SIGN + 1]).strip()
    if not 0 < len(sign) <= _LONGEST_SIGN or sign[0] in "[(":
        return False
    if "noteref" in (link.get("role") or attribute(link, "type")):
        return True
    parent = link.getparent()
    raised = [*link[:1], *([] if parent is None else [parent])]
    return any(local_name(element) == "sup" for element in raised)


def _end_abbreviation(flow: Flow, element: Element) -> None:
    begin = flow.begins.pop()
    if title := element.get("title"):
        flow.aside(title, begin)


def _end_reading(flow: Flow, _element: Element) -> None:
    """Take the reading of a word out of the line; it is written after the line."""
    begin = flow.begins.pop()
    flow.reading.append(squeeze("".join(flow.pieces[begin:])))
    del flow.pieces[begin:]


def _end_ruby(flow: Flow, _element: Element) -> None:
    readings = [*filter(None, flow.reading)]
    flow.reading.clear()
    gap = " " if any(reading.isascii() for reading in readings) else ""
    if readings:
        flow.readings.append(gap.join(readings))


def _formula(flow: Flow, element: Element) -> bool:
    if text := mathml.latex(element):
        flow.words(f"${text}$")
    return False


def _control(flow: Flow, element: Element) -> bool:
    """Write what a person sees in a control of a form."""
    kind = (element.get("type") or "text").lower()
    value, label = element.get("value") or "", element.get("placeholder") or ""
    if kind in {"checkbox", "radio"}:
        flow.words("[x]" if element.get("checked") is not None else "[ ]")
    elif kind == "image":
        _picture(flow, element)
    elif kind not in _NO_VALUE:
        flow.words(f"{label}: {value}" if label and value else label or value)
    elif label:
        flow.words(label)
    return False


def _option(flow: Flow, element: Element) -> bool:
    flow.tight = True
    if element.get("selected") is not None:
        flow.pieces.append("[x] ")
    if not element.text and (label := element.get("label")):
        flow.words(label)
    return True


def _group(flow: Flow, element: Element) -> bool:
    if label := element.get("label"):
        flow.words(label)
    return True


def _text_area(flow: Flow, element: Element) -> bool:
    if label := element.get("placeholder"):
        flow.words(label)
        flow.flush()
    return _preformatted(flow, element)


def _frame(flow: Flow, element: Element) -> bool:
    source = element.get("srcdoc")
    if source and flow.frames < _MAX_FRAMES:
        _insert(flow, source)
    return False


def _noscript(flow: Flow, element: Element) -> bool:
    number = element.get("n")
    if number is None or not number.isdigit() or int(number) >= len(flow.page.html.noscripts):
        return len("".join(element.itertext())) <= _SMALL_NOSCRIPT
    source = flow.page.html.noscripts[int(number)]
    if len(source) <= _SMALL_NOSCRIPT:
        _insert(flow, source, quiet=True)
    return False


def _insert(flow: Flow, source: str, *, quiet: bool = False) -> None:
    root = parse_text(source)
    if root is None:
        return
    flow.flush()
    inner = Flow(flow.sink, flow.page, frames=flow.frames + 1)
    inner.quiet = int(quiet)
    inner.write(root)
    flow.is_blank = flow.is_blank and inner.is_blank


#: What begins and what ends an element, by its name.
_ACTIONS: Final[dict[str, tuple[Start | None, End | None]]] = {
    **dict.fromkeys(_SILENT, (_skip, None)),
    **dict.fromkeys(_WORDS, (_space, _end_space)),
    **dict.fromkeys(("ol", "ul", "menu", "dir"), (_items, _end_items)),
    **dict.fromkeys(("nav", "footer"), (_quiet, _end_quiet)),
    **dict.fromkeys(("abbr", "acronym", "dfn"), (_begin, _end_abbreviation)),
    **dict.fromkeys(("img", "area", "image"), (_picture, None)),
    "br": (_line_break, None),
    "pre": (_preformatted, _end_preformatted),
    "listing": (_preformatted, _end_preformatted),
    "title": (_title, _end_space),
    "template": (_template, None),
    "q": (_quote, _end_quote),
    "li": (_item, _end_item),
    "dd": (_definition, None),
    "table": (_table, None),
    "a": (_begin, _end_link),
    "rt": (_begin, _end_reading),
    "ruby": (None, _end_ruby),
    "math": (_formula, None),
    "input": (_control, None),
    "option": (_option, None),
    "optgroup": (_group, None),
    "textarea": (_text_area, _end_preformatted),
    "iframe": (_frame, None),
    "noscript": (_noscript, _end_space),
}
RULES: Final = Rules(_ACTIONS)
RULES.update(
    {
        etree.Entity: Rule("", _entity),
        etree.Comment: Rule("", _skip),
        etree.ProcessingInstruction: Rule("", _skip),
    }
)


def _shown_target(target: str) -> str:
    """Return the address of a link; of a very long one, without its query; nothing if that is long too."""
    target = target.removeprefix("mailto:").removeprefix("tel:")
    if len(target) > _LONGEST_TARGET:
        target = re.split(r"[?#]", target, maxsplit=1)[0]
    return target if len(target) <= _LONGEST_TARGET else ""
