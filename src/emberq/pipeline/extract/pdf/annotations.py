"""What lies on a PDF's page beside its content: values of forms, notes, stamps, targets of links, files."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from pypdfium2 import raw

from emberq.pipeline.extract.layout.placed import Line
from emberq.pipeline.extract.pdf.lines import turn
from emberq.pipeline.extract.pdf.strings import utf16

#: Most annotations of a page that are looked at; forms have hundreds.
MAX_ANNOTATIONS: Final = 20_000
#: Most questions about fields to pdfium's form, which looks through all fields for each, and most choices of
#: a list that it is asked for.
_MAX_QUESTIONS: Final = 20_000
_MAX_OPTIONS: Final = 500

#: Annotations are not shown if one of these flags is set: hidden, or not to be viewed.
_NOT_SHOWN: Final = raw.FPDF_ANNOT_FLAG_HIDDEN | raw.FPDF_ANNOT_FLAG_NOVIEW
#: The flags of a field whose value is a password, and of a button that has no value.
_IS_PASSWORD: Final = 1 << 13
_IS_BUTTON: Final = 1 << 16

#: Notes on the text, whose content is shown when a person points at them.
_NOTES: Final = frozenset(
    {
        *(raw.FPDF_ANNOT_TEXT, raw.FPDF_ANNOT_HIGHLIGHT, raw.FPDF_ANNOT_UNDERLINE, raw.FPDF_ANNOT_SQUIGGLY),
        *(raw.FPDF_ANNOT_STRIKEOUT, raw.FPDF_ANNOT_CARET, raw.FPDF_ANNOT_INK, raw.FPDF_ANNOT_LINE),
        *(raw.FPDF_ANNOT_SQUARE, raw.FPDF_ANNOT_CIRCLE, raw.FPDF_ANNOT_POLYGON, raw.FPDF_ANNOT_POLYLINE),
        *(raw.FPDF_ANNOT_STAMP, raw.FPDF_ANNOT_FILEATTACHMENT, raw.FPDF_ANNOT_REDACT, raw.FPDF_ANNOT_SOUND),
    }
)
#: Annotations whose appearance may show text that stands nowhere else.
_DRAWN: Final = frozenset({raw.FPDF_ANNOT_STAMP, raw.FPDF_ANNOT_WATERMARK, raw.FPDF_ANNOT_FREETEXT})

#: Shown for boxes and buttons of a choice.
_CHECKED: Final = "\u2612"
_UNCHECKED: Final = "\u2610"
CHECK_MARKS: Final = frozenset({_CHECKED, _UNCHECKED})

#: The name of a field that a person chose: words, not a path made by a program.
_WORDS: Final = re.compile(r"[^\W\d_][\w \-]{1,40}")


class Form:
    """The form of a document, as pdfium knows it; it is asked only for what is not in the field itself."""

    def __init__(self, handle: Any | None) -> None:
        """Take pdfium's environment of the form; None if the document has no form."""
        self._handle = handle
        self._left = _MAX_QUESTIONS

    def value(self, annotation: Any) -> str | None:
        """Return the value of a field; None if it has none that can be told."""
        kind = self._ask(raw.FPDFAnnot_GetFormFieldType, annotation)
        if kind in {raw.FPDF_FORMFIELD_CHECKBOX, raw.FPDF_FORMFIELD_RADIOBUTTON}:
            # pdfium's own answer needs the whole page prepared for filling it in.
            return _check_mark(_string(annotation, b"AS") or self._text(annotation))
        if kind in {raw.FPDF_FORMFIELD_COMBOBOX, raw.FPDF_FORMFIELD_LISTBOX}:
            return self._choices(annotation) or self._text(annotation)
        if kind == raw.FPDF_FORMFIELD_TEXTFIELD:
            is_secret = self._ask(raw.FPDFAnnot_GetFormFieldFlags, annotation) & _IS_PASSWORD
            return "" if is_secret else self._text(annotation)
        return "" if kind == raw.FPDF_FORMFIELD_PUSHBUTTON else None

    def _choices(self, annotation: Any) -> str:
        count = min(self._ask(raw.FPDFAnnot_GetOptionCount, annotation), _MAX_OPTIONS)
        chosen = [
            utf16(self._ask, raw.FPDFAnnot_GetOptionLabel, annotation, index)
            for index in range(count)
            if self._ask(raw.FPDFAnnot_IsOptionSelected, annotation, index) > 0
        ]
        return ", ".join(chosen)

    def _text(self, annotation: Any) -> str:
        return utf16(self._ask, raw.FPDFAnnot_GetFormFieldValue, annotation)

    def _ask(self, question: Callable[..., int], annotation: Any, *arguments: Any) -> int:
        """Return the answer to a question; -1 if there is no form, or too many were asked."""
        if not self._handle or not self._left:
            return -1
        self._left -= 1
        return question(self._handle, annotation, *arguments)


@dataclass(slots=True)
class Annotations:
    """What a page's annotations say.

    Attributes:
        fields: The values of the form, and texts that were typed onto the page, at their places; each with
            what a person reads when pointing at it, or nothing.
        notes: Notes on the text.
        targets: The addresses of links.
        files: Handles of the files that are attached to a place of the page.
        is_drawn: Whether text may be only in the appearance of an annotation, so that the page has to be
            flattened to read it.
        has_unlisted: Whether some of it belongs to fields that the form does not list.
        is_cut: Whether there are more annotations than are looked at.
    """

    fields: list[tuple[Line, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    files: list[Any] = field(default_factory=list)
    is_drawn: bool = False
    has_unlisted: bool = False
    is_cut: bool = False


def read_annotations(document: Any, page: Any, form: Form, *, turned: int) -> Annotations | None:
    """Return what a page's annotations say; None if it has none.

    Args:
        document: The `pypdfium2.PdfDocument`.
        page: A `pypdfium2.PdfPage` of it.
        form: The document's form.
        turned: Quarter turns of the page.
    """
    count = raw.FPDFPage_GetAnnotCount(page)
    if count <= 0:
        return None
    found = Annotations(is_cut=count > MAX_ANNOTATIONS)
    for index in range(min(count, MAX_ANNOTATIONS)):
        annotation = raw.FPDFPage_GetAnnot(page, index)
        if not annotation:
            continue
        try:
            _read(document, annotation, form, found, turned)
        finally:
            raw.FPDFPage_CloseAnnot(annotation)
    return found


def _read(document: Any, annotation: Any, form: Form, found: Annotations, turned: int) -> None:
    kind = raw.FPDFAnnot_GetSubtype(annotation)
    if kind == raw.FPDF_ANNOT_LINK:
        target = _target(document, annotation)
        if target:
            found.targets.append(target)
        return
    if kind == raw.FPDF_ANNOT_POPUP or raw.FPDFAnnot_GetFlags(annotation) & _NOT_SHOWN:
        return
    if kind != raw.FPDF_ANNOT_WIDGET:
        _read_note(kind, annotation, found, turned)
    elif not _read_field(annotation, form, found, turned) and _has(annotation, b"AP"):
        found.is_drawn = found.has_unlisted = True


def _read_note(kind: int, annotation: Any, found: Annotations, turned: int) -> None:
    content = _string(annotation, b"Contents").strip()
    if kind == raw.FPDF_ANNOT_FREETEXT and content:
        found.fields.append((_line(annotation, content, turned), ""))
        return
    if kind in _DRAWN:
        found.is_drawn = found.is_drawn or _has(annotation, b"AP")
    if kind == raw.FPDF_ANNOT_FILEATTACHMENT:
        file = raw.FPDFAnnot_GetFileAttachment(annotation)
        if file:
            found.files.append(file)
    if kind in _NOTES and content:
        found.notes.append(content)


def _has(annotation: Any, key: bytes) -> bool:
    return bool(raw.FPDFAnnot_HasKey(annotation, key))


def _target(document: Any, annotation: Any) -> str:
    link = raw.FPDFAnnot_GetLink(annotation)
    action = raw.FPDFLink_GetAction(link) if link else None
    if not action or raw.FPDFAction_GetType(action) != raw.PDFACTION_URI:
        return ""
    size = raw.FPDFAction_GetURIPath(document, action, None, 0)
    buffer = ctypes.create_string_buffer(size)
    raw.FPDFAction_GetURIPath(document, action, buffer, size)
    return buffer.raw.rstrip(b"\0").decode("utf-8", "replace").strip()


def _read_field(annotation: Any, form: Form, found: Annotations, turned: int) -> bool:
    """Note the value of a field; tells whether nothing more of it can be in its appearance."""
    kind = _string(annotation, b"FT")
    if kind == "Tx" and (_has(annotation, b"V") or not _has(annotation, b"Parent")):
        value = "" if _flags(annotation) & _IS_PASSWORD else _string(annotation, b"V")
    elif kind == "Btn":
        state = _string(annotation, b"AS") or _string(annotation, b"V")
        value = "" if _flags(annotation) & _IS_BUTTON else _check_mark(state)
    else:
        # What the field has from its parent, or a list of choices, only pdfium's form knows.
        asked = form.value(annotation)
        if asked is None:
            return False
        value = asked
    if not value.strip():
        return True
    label = _string(annotation, b"TU").strip()
    if not label:
        name = _string(annotation, b"T")
        label = name if _WORDS.fullmatch(name) else ""
    found.fields.append((_line(annotation, value.strip(), turned), label))
    return True


def _check_mark(state: str) -> str:
    return _UNCHECKED if state in {"", "Off"} else _CHECKED


def _flags(annotation: Any) -> int:
    number = ctypes.c_float()
    raw.FPDFAnnot_GetNumberValue(annotation, b"Ff", number)
    return int(number.value)


def _line(annotation: Any, text: str, turned: int) -> Line:
    box = raw.FS_RECTF()
    raw.FPDFAnnot_GetRect(annotation, box)
    left, right = sorted((box.left, box.right))
    bottom, top = sorted((box.bottom, box.top))
    edges = turn((left, bottom, right, top), turned)
    return Line(text, *edges, edges[3] - edges[1], turned)


def _string(annotation: Any, key: bytes) -> str:
    return utf16(raw.FPDFAnnot_GetStringValue, annotation, key)
