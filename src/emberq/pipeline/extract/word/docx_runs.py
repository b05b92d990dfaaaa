"""The words in a paragraph of a Word file, and what hangs on it: boxes, pictures, charts, comments."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Final, NamedTuple

from emberq.pipeline.extract.office.drawingml import alternative_text, is_decorative
from emberq.pipeline.extract.office.omml import latex
from emberq.pipeline.extract.office.ooxml import Element, attribute, local_name
from emberq.pipeline.extract.office.symbol_fonts import PRIVATE, replace_private, symbol

#: Elements that are not read: text before a tracked change, copies for old programs, properties, guides.
HIDDEN: Final = frozenset({"del", "moveFrom", "pPr", "rPr", "sdtPr", "sdtEndPr", "instrText", "delText"})

_SIGNS: Final = {"tab": "\t", "ptab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}

#: The target in the code of a field that is a link.
_LINK: Final = re.compile(r'\s*HYPERLINK\s+"([^"]+)"', re.IGNORECASE)
#: Targets that are worth reading, and most characters of one.
_WEB: Final = re.compile(r"(?:https?|ftp|mailto|tel|file):", re.IGNORECASE)
_LONGEST_TARGET: Final = 500

#: Pieces of a link's text in which its target is looked for.
_LINK_PIECES: Final = 100

_ON: Final = frozenset({"1", "true", "on"})


class Hanging(NamedTuple):
    """What hangs on a paragraph.

    Attributes:
        kind: `box`, `alternative`, `picture`, `chart`, `diagram`, `object`, or `comment`.
        value: The description; or the id of a link or comment.
        element: The content of a box.
    """

    kind: str
    value: str = ""
    element: Element = None


@dataclass(slots=True)
class _Field:
    """A field that has begun: the pieces of its code, where its result begins, and its form control."""

    code: list[str] = field(default_factory=list)
    start: int = 0
    is_result: bool = False
    control: Element | None = None


class Links:
    """The targets of a document's links; each is told once."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def tell(self, target: str, text: str) -> str:
        """Return what is added to a link's text: its target, unless it was told or stands in the text."""
        short = target.removeprefix("mailto:")
        if target in self._told or not _WEB.match(target) or len(target) > _LONGEST_TARGET or short in text:
            return ""
        self._told.add(target)
        return f" ({short})"


class Runs:
    """Collects the text of one paragraph."""

    def __init__(self, targets: dict[str, str], links: Links) -> None:
        """Begin a paragraph.

        Args:
            targets: The targets of links of its part, by id.
            links: The links of the document.
        """
        self.hanging: list[Hanging] = []
        self._targets = targets
        self._links = links
        self._pieces: list[str] = []
        self._fields: list[_Field] = []
        #: How many fields are in their code, which is not shown.
        self._codes = 0
        self._readings: list[str] = []
        self._ruby_end = -1
        self._described = False
        self._alternative_texts: set[str] = set()

    def text(self) -> str:
        """Return the text so far; the readings of its characters stand at its end."""
        text = "".join(self._pieces)
        if self._readings:
            text = f"{text} ({' '.join(dict.fromkeys(self._readings))})"
        return text

    def read(self, element: Element) -> None:
        """Read what is in an element."""
        for child in element:
            name = local_name(child)
            if name == "t":
                self._add(_text_of(child))
            elif name in _SIGNS:
                self._add(_SIGNS[name])
            elif (handle := self._HANDLERS.get(name)) is not None:
                handle(self, child)
            elif name not in HIDDEN:
                self.read(child)

    def _add(self, text: str) -> None:
        if text and not self._codes:
            self._pieces.append(text)

    def _symbol(self, element: Element) -> None:
        code = attribute(element, "char")
        if re.fullmatch("[0-9A-Fa-f]{1,4}", code):
            self._add(symbol(int(code, 16), attribute(element, "font")))

    def _ruby(self, element: Element) -> None:
        is_next = self._ruby_end == len(self._pieces)
        reading = Runs(self._targets, self._links)
        for part in element:
            match local_name(part):
                case "rubyBase":
                    self.read(part)
                case "rt":
                    reading.read(part)
        # The readings of neighbours are one word.
        if is_next and self._readings:
            self._readings[-1] += reading.text()
        elif text := reading.text():
            self._readings.append(text)
        self._ruby_end = len(self._pieces)

    def _equation(self, element: Element) -> None:
        if text := latex(element):
            self._add(f"${text}$")

    def _equations(self, element: Element) -> None:
        texts = (latex(equation) for equation in element.iterchildren("{*}oMath"))
        self._add("\n".join(f"${text}$" for text in texts if text))

    def _link(self, element: Element) -> None:
        start = len(self._pieces)
        self.read(element)
        if target := self._targets.get(attribute(element, "id")):
            self._add(self._links.tell(target, "".join(self._pieces[start:])))

    def _simple_field(self, element: Element) -> None:
        start = len(self._pieces)
        self.read(element)
        self._tell_field(attribute(element, "instr"), start)

    def _tell_field(self, code: str, start: int) -> None:
        if found := _LINK.match(code):
            # Fields may be nested without a limit; a link has few pieces.
            self._add(self._links.tell(found[1], "".join(self._pieces[start : start + _LINK_PIECES])))

    def _field_mark(self, element: Element) -> None:
        match attribute(element, "fldCharType"):
            case "begin":
                control = next(element.iterchildren("{*}ffData"), None)
                self._fields.append(_Field(control=control))
                self._codes += 1
            case "separate" if self._fields and not self._fields[-1].is_result:
                self._fields[-1].is_result = True
                self._fields[-1].start = len(self._pieces)
                self._codes -= 1
            case "end" if self._fields:
                done = self._fields.pop()
                if not done.is_result:
                    self._codes -= 1
                    done.start = len(self._pieces)
                self._end_field(done)

    def _end_field(self, done: _Field) -> None:
        if done.control is not None and done.start == len(self._pieces):
            self._add(_control_text(done.control))
        self._tell_field("".join(done.code), done.start)

    def _field_code(self, element: Element) -> None:
        if self._fields:
            self._fields[-1].code.append(element.text or "")

    def _control(self, element: Element) -> None:
        for box in element.iterfind("{*}sdtPr/{*}checkbox"):
            state = next((attribute(child, "val", "1") for child in box.iterchildren("{*}checked")), "0")
            self._add("☒" if state in _ON else "☐")
            return
        self.read(element)

    def _alternatives(self, element: Element) -> None:
        """Read the first of the forms of one content."""
        for child in element:
            if local_name(child) in {"Choice", "Fallback"}:
                self.read(child)
                return

    def _properties(self, element: Element) -> None:
        text = alternative_text(element)
        self._described |= bool(text) or is_decorative(element)
        if text and text not in self._alternative_texts:
            self._alternative_texts.add(text)
            self.hanging.append(Hanging("alternative", text))

    def _drawing(self, element: Element) -> None:
        self._described = False
        self.read(element)

    def _picture(self, element: Element) -> None:
        self.read(element)
        if not self._described:
            self.hanging.append(Hanging("picture"))

    def _old_picture(self, element: Element) -> None:
        if text := attribute(element.getparent(), "alt"):
            self.hanging.append(Hanging("alternative", text))
        else:
            self.hanging.append(Hanging("picture"))

    def _word_art(self, element: Element) -> None:
        self._add(attribute(element, "string"))

    def _box(self, element: Element) -> None:
        self.hanging.append(Hanging("box", element=element))

    def _chart(self, element: Element) -> None:
        self.hanging.append(Hanging("chart", attribute(element, "id")))

    def _diagram(self, element: Element) -> None:
        self.hanging.append(Hanging("diagram", attribute(element, "dm")))

    def _object(self, element: Element) -> None:
        for embedded in element.iter("{*}OLEObject"):
            self.hanging.append(Hanging("object", attribute(embedded, "id")))

    def _comment(self, element: Element) -> None:
        self.hanging.append(Hanging("comment", attribute(element, "id")))

    #: What reads the elements that are more than their content.
    _HANDLERS: ClassVar[dict[str, Callable[[Runs, Element], None]]] = {
        "sym": _symbol,
        "ruby": _ruby,
        "oMath": _equation,
        "oMathPara": _equations,
        "hyperlink": _link,
        "fldSimple": _simple_field,
        "fldChar": _field_mark,
        "instrText": _field_code,
        "sdt": _control,
        "AlternateContent": _alternatives,
        "docPr": _properties,
        "cNvPr": _properties,
        "drawing": _drawing,
        "pic": _picture,
        "imagedata": _old_picture,
        "textpath": _word_art,
        "txbxContent": _box,
        "chart": _chart,
        "relIds": _diagram,
        "object": _object,
        "commentReference": _comment,
    }


def _text_of(element: Element) -> str:
    text = element.text or ""
    if text.isascii() or not PRIVATE.search(text):
        return str(text)
    font = next((attribute(fonts, "ascii") for fonts in element.getparent().iterfind("{*}rPr/{*}rFonts")), "")
    return replace_private(text, font)


def _control_text(control: Element) -> str:
    """Return what a form control of the old kind shows."""
    for box in control.iterchildren("{*}checkBox"):
        states = {local_name(child): attribute(child, "val", "1") for child in box}
        return "☒" if states.get("checked", states.get("default", "0")) in _ON else "☐"
    for choices in control.iterchildren("{*}ddList"):
        entries = [attribute(entry, "val") for entry in choices.iterchildren("{*}listEntry")]
        chosen = next((attribute(result, "val") for result in choices.iterchildren("{*}result")), "0")
        if chosen.isdecimal() and len(chosen) < 4 and int(chosen) < len(entries):  # noqa: PLR2004 - 25 at most
            return entries[int(chosen)]
    return ""
