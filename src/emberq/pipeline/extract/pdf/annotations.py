"""What lies on a PDF's page beside its content: values of forms, notes, stamps, targets of links, files."""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass, field
from typing import Any, Final

from pypdfium2 import raw

from emberq.pipeline.extract.pdf.lines import turn
from emberq.pipeline.extract.pdf.strings import utf16
from emberq.pipeline.extract.placed import Line

#: Most annotations of a page that are looked at; forms have hundreds.
MAX_ANNOTATIONS: Final = 20_000
#: Most choices of a list that are looked at.
_MAX_OPTIONS: Final = 5_000

#: Annotations are not shown if one of these flags is set: hidden, or not to be viewed.
_NOT_SHOWN: Final = raw.FPDF_ANNOT_FLAG_HIDDEN | raw.FPDF_ANNOT_FLAG_NOVIEW
#: The flag of a field whose value is a password.
_IS_PASSWORD: Final = 1 << 13

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


def read_annotations(document: Any, page: Any, form: Any | None, *, turned: int) -> Annotations | None:
    """Return what a page's annotations say; None if it has none.

    Args:
        document: The `pypdfium2.PdfDocument`.
        page: A `pypdfium2.PdfPage` of it.
        form: pdfium's environment of the document's form; None if it has no form.
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


def _read(document: Any, annotation: Any, form: Any | None, found: Annotations, turned: int) -> None:
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
    elif not (form and _read_field(annotation, form, found, turned)) and _has_appearance(annotation):
        found.is_drawn = found.has_unlisted = True


def _read_note(kind: int, annotation: Any, found: Annotations, turned: int) -> None:
    content = _string(annotation, b"Contents").strip()
    if kind == raw.FPDF_ANNOT_FREETEXT and content:
        found.fields.append((_line(annotation, content, turned), ""))
        return
    if kind in _DRAWN:
        found.is_drawn = found.is_drawn or _has_appearance(annotation)
    if kind == raw.FPDF_ANNOT_FILEATTACHMENT:
        file = raw.FPDFAnnot_GetFileAttachment(annotation)
        if file:
            found.files.append(file)
    if kind in _NOTES and content:
        found.notes.append(content)


def _has_appearance(annotation: Any) -> bool:
    return bool(raw.FPDFAnnot_HasKey(annotation, b"AP"))


def _target(document: Any, annotation: Any) -> str:
    link = raw.FPDFAnnot_GetLink(annotation)
    action = raw.FPDFLink_GetAction(link) if link else None
    if not action or raw.FPDFAction_GetType(action) != raw.PDFACTION_URI:
        return ""
    size = raw.FPDFAction_GetURIPath(document, action, None, 0)
    buffer = ctypes.create_string_buffer(size)
    raw.FPDFAction_GetURIPath(document, action, buffer, size)
    return buffer.raw.rstrip(b"\0").decode("utf-8", "replace").strip()


def _read_field(annotation: Any, form: Any, found: Annotations, turned: int) -> bool:
    """Note the value of a field; tells whether nothing more of it can be in its appearance."""
    kind = raw.FPDFAnnot_GetFormFieldType(form, annotation)
    if kind in {raw.FPDF_FORMFIELD_CHECKBOX, raw.FPDF_FORMFIELD_RADIOBUTTON}:
        # pdfium's own answer needs the whole page prepared for filling it in.
        state = _string(annotation, b"AS") or utf16(raw.FPDFAnnot_GetFormFieldValue, form, annotation)
        value = _UNCHECKED if state in {"", "Off"} else _CHECKED
    elif kind in {raw.FPDF_FORMFIELD_COMBOBOX, raw.FPDF_FORMFIELD_LISTBOX}:
        value = _choices(annotation, form) or utf16(raw.FPDFAnnot_GetFormFieldValue, form, annotation)
    elif kind == raw.FPDF_FORMFIELD_TEXTFIELD:
        is_secret = raw.FPDFAnnot_GetFormFieldFlags(form, annotation) & _IS_PASSWORD
        value = "" if is_secret else utf16(raw.FPDFAnnot_GetFormFieldValue, form, annotation)
    else:
        # Buttons do something and say nothing. Signatures, and fields that the form does not list, may show
        # anything.
        return bool(kind == raw.FPDF_FORMFIELD_PUSHBUTTON)
    if not value.strip():
        return True
    label = utf16(raw.FPDFAnnot_GetFormFieldAlternateName, form, annotation).strip()
    if not label:
        name = utf16(raw.FPDFAnnot_GetFormFieldName, form, annotation).rpartition(".")[2]
        label = name if _WORDS.fullmatch(name) else ""
    found.fields.append((_line(annotation, value.strip(), turned), label))
    return True


def _choices(annotation: Any, form: Any) -> str:
    count = min(raw.FPDFAnnot_GetOptionCount(form, annotation), _MAX_OPTIONS)
    chosen = (index for index in range(count) if raw.FPDFAnnot_IsOptionSelected(form, annotation, index))
    return ", ".join(utf16(raw.FPDFAnnot_GetOptionLabel, form, annotation, index) for index in chosen)


def _line(annotation: Any, text: str, turned: int) -> Line:
    box = raw.FS_RECTF()
    raw.FPDFAnnot_GetRect(annotation, box)
    left, right = sorted((box.left, box.right))
    bottom, top = sorted((box.bottom, box.top))
    edges = turn((left, bottom, right, top), turned)
    return Line(text, *edges, edges[3] - edges[1], turned)


def _string(annotation: Any, key: bytes) -> str:
    return utf16(raw.FPDFAnnot_GetStringValue, annotation, key)
