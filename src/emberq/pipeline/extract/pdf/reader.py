"""The reader of PDF: goes through the pages, and appends what they say."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final, Self

import pypdfium2
from pypdfium2 import raw

from emberq.errors import CorruptFile, EncryptedFile, NoTextFound
from emberq.errors.file_warnings import WarningCode
from emberq.pipeline.extract.builder import DocumentBuilder, squeeze
from emberq.pipeline.extract.layout import ocr
from emberq.pipeline.extract.layout.blocks import write_blocks
from emberq.pipeline.extract.layout.placed import Line
from emberq.pipeline.extract.pdf.annotations import Annotations, Form, read_annotations
from emberq.pipeline.extract.pdf.fields import with_fields
from emberq.pipeline.extract.pdf.fonts import drop_unmapped
from emberq.pipeline.extract.pdf.lines import PageText
from emberq.pipeline.extract.pdf.order import in_reading_order
from emberq.pipeline.extract.pdf.outline import read_outline, with_headings
from emberq.pipeline.extract.pdf.properties import attach, attach_files, read_properties

#: Bytes at the end that must contain `startxref`; the standard says 1,024, but writers append more.
_TAIL: Final = 64 * 1024

#: Most pixels per point of a page that is drawn for OCR.
_MAX_SCALE: Final = 4.0

#: Most objects of a page among which a picture is looked for.
_MAX_OBJECTS: Final = 2_000

#: A page that asks for another program, in English; in other languages the kind of the form tells it.
_PLACEHOLDER: Final = re.compile(
    r"Please wait\W+If this message is not eventually replaced by the proper contents of the document",
    re.IGNORECASE,
)
#: Most characters of the placeholder of a form that has to be rendered by its program.
_MAX_PLACEHOLDER: Final = 2_000

#: A page's text is garbage if this share of its characters has no known meaning; the lower one is told.
_GARBAGE: Final = 0.5
_TOLD: Final = 0.1

#: Most lines drawn by annotations that are compared with the page's text.
_MAX_COMPARED: Final = 1_000

#: What to do about a PDF without text.
_DRAWING_HINT: Final = "Make the PDF anew with its text as text, not as shapes."

#: Targets of links that lead out of the document.
_TARGET: Final = re.compile(r"(?:https?|ftp|mailto|tel|doi|urn):|www\.", re.IGNORECASE)
_MAX_TARGET: Final = 2_000


def read(stream: BinaryIO, build: DocumentBuilder, progress: Callable[[int, int], None]) -> int:
    """Read a PDF, page by page.

    Returns:
        The number of pages.

    Raises:
        CorruptFile: If the file is damaged or cut short.
        EncryptedFile: If the file needs a password.
        NoTextFound: If it has no text; the message and the hint say why.
    """
    try:
        document = pypdfium2.PdfDocument(stream)
    except pypdfium2.PdfiumError as exc:
        if exc.err_code == raw.FPDF_ERR_PASSWORD:
            raise EncryptedFile("The PDF is protected by a password.") from exc
        raise CorruptFile("The PDF is damaged: its structure cannot be read.") from exc
    with document:
        # Every PDF ends with this mark; pdfium would read the rest of a truncated file without an error.
        if b"startxref" not in _tail(stream):
            raise CorruptFile("The PDF is cut short: its end is missing.")
        count = len(document)
        if not count:
            raise CorruptFile("The PDF is damaged: it has no pages.")
        with _Reader(document, build, count) as reader:
            for index in range(count):
                reader.read_page(index)
                progress(index + 1, count)
            reader.write()
    return count


def _tail(stream: BinaryIO) -> bytes:
    size = stream.seek(0, 2)
    stream.seek(max(0, size - _TAIL))
    return stream.read()


@dataclass(slots=True)
class _Page:
    """What a page says.

    Attributes:
        lines: Its lines, in reading order.
        notes: Notes on the text.
        targets: Where links lead to that its text does not name.
        files: Files attached to a place of the page.
    """

    lines: list[Line]
    notes: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    files: list[Any] = field(default_factory=list)


class _Reader:
    """Collects what the pages of one document say, and then writes it."""

    def __init__(self, document: pypdfium2.PdfDocument, build: DocumentBuilder, count: int) -> None:
        self._document = document
        self._build = build
        self._count = count
        self._pages: list[_Page] = []
        self._outline = read_outline(document)
        self._form_kind = document.get_formtype()
        self._form: Any = None
        self._fields = Form(None)
        self._characters = 0
        self._has_placeholder = False
        self._targets: set[str] = set()
        #: Numbers of the pages without text, by what is on them instead.
        self._unread: dict[str, list[int]] = {"pictures": [], "shapes": [], "garbage": []}

    def __enter__(self) -> Self:
        if self._form_kind != raw.FORMTYPE_NONE:
            # pdfium keeps a pointer to it.
            self._form_information = raw.FPDF_FORMFILLINFO(version=2)
            self._form = raw.FPDFDOC_InitFormFillEnvironment(self._document, self._form_information)
            self._fields = Form(self._form)
        return self

    def __exit__(self, *_error: object) -> None:
        if self._form:
            raw.FPDFDOC_ExitFormFillEnvironment(self._form)

    def read_page(self, index: int) -> None:
        """Read one page.

        Raises:
            CorruptFile: If it is damaged.
            FileTooLarge: If the document has too much text.
        """
        try:
            page = self._document[index]
            try:
                said = self._read_page(page, index)
            finally:
                page.close()
        except pypdfium2.PdfiumError as exc:
            raise CorruptFile(f"Page {index + 1} of {self._count} of the PDF is damaged.") from exc
        self._pages.append(said)
        self._characters += sum(len(line.text) for line in said.lines)
        # A small file can name one page many times.
        self._build.meter.expect_text(self._characters)

    def _read_page(self, page: pypdfium2.PdfPage, index: int) -> _Page:
        turned = raw.FPDFPage_GetRotation(page)
        annotations = read_annotations(self._document, page, self._fields, turned=turned)
        content = page.get_textpage()
        try:
            text = PageText(content, turned=turned)
            lines = self._lines(text, index)
            if annotations and annotations.fields:
                lines = with_fields(text, lines, annotations.fields)
            if annotations and annotations.is_drawn:
                drawn = list(self._drawn_lines(page, index, lines, text))
                if annotations.has_unlisted:
                    lines = with_fields(text, lines, [(line, "") for line in drawn])
                else:
                    lines += drawn
        finally:
            content.close()
        if not lines:
            lines = self._read_picture(page, index)
        if index in self._outline:
            lines = with_headings(lines, self._outline[index])
        said = _Page(lines)
        if annotations:
            self._add_annotations(annotations, said, text.text)
        return said

    def _lines(self, text: PageText, index: int) -> list[Line]:
        unmapped = drop_unmapped(text)
        if unmapped > _TOLD:
            self._build.warn(WarningCode.FONT_WITHOUT_UNICODE, f"page {index + 1}")
        if unmapped > _GARBAGE:
            self._unread["garbage"].append(index + 1)
        if self._is_placeholder(text.text):
            self._has_placeholder = True
            return []
        return in_reading_order(text, list(text.lines()))

    def _is_placeholder(self, text: str) -> bool:
        if self._form_kind == raw.FORMTYPE_XFA_FULL and self._count == 1 and len(text) <= _MAX_PLACEHOLDER:
            return True
        return len(text) <= _MAX_PLACEHOLDER and _PLACEHOLDER.search(text) is not None

    def _drawn_lines(
        self, page: pypdfium2.PdfPage, index: int, lines: list[Line], before: PageText
    ) -> Iterable[Line]:
        """Yield the lines that only annotations draw: the page is flattened, and read once more."""
        if raw.FPDFPage_Flatten(page, raw.FLAT_NORMALDISPLAY) != raw.FLATTEN_SUCCESS:
            return
        flat = self._document[index]
        try:
            content = flat.get_textpage()
            try:
                text = PageText(content, turned=before.turned)
                drop_unmapped(text)
                known = squeeze(" ".join(line.text for line in lines))
                both = zip(text.text, before.text, strict=False)
                start = next((at for at, (new, old) in enumerate(both) if new != old), len(before.text))
                for number, line in enumerate(text.lines(start=start)):
                    if number >= _MAX_COMPARED or squeeze(line.text) not in known:
                        yield line
            finally:
                content.close()
        finally:
            flat.close()

    def _read_picture(self, page: pypdfium2.PdfPage, index: int) -> list[Line]:
        """Return the lines of a page without text by OCR; note what is on it if they cannot be read."""
        kinds = {raw.FPDFPageObj_GetType(thing) for thing in _objects(page)}
        if kinds and ocr.may_read(self._build.meter) and not self._has_placeholder:
            if self._build.meter.has_ocr_left:
                scale = ocr.MAX_SIDE / max(*page.get_size(), 1.0)
                picture = page.render(scale=min(scale, _MAX_SCALE)).to_pil().convert("RGB")
                if lines := ocr.read_picture(picture, self._build.meter):
                    return lines
            else:
                self._build.warn(WarningCode.TRUNCATED_AT_LIMIT, f"page {index + 1}")
        if raw.FPDF_PAGEOBJ_IMAGE in kinds:
            self._unread["pictures"].append(index + 1)
        elif kinds:
            self._unread["shapes"].append(index + 1)
        return []

    def _add_annotations(self, annotations: Annotations, said: _Page, text: str) -> None:
        said.files = annotations.files
        words = _closed(text)
        said.notes = [note for note in annotations.notes if _closed(note) not in words]
        for target in annotations.targets:
            if target in self._targets or not _TARGET.match(target) or len(target) > _MAX_TARGET:
                continue
            self._targets.add(target)
            if _closed(target.split(":", 1)[-1].strip("/")) not in words:
                said.targets.append(target)
        if annotations.is_cut:
            self._build.warn(WarningCode.TRUNCATED_AT_LIMIT)

    def write(self) -> None:
        """Append what all pages say.

        Raises:
            NoTextFound: If that is nothing.
        """
        build = self._build
        self._warn()
        if any(page.lines for page in self._pages):
            first = " ".join(line.text for line in self._pages[0].lines)
            build.page = 1
            build.paragraph(read_properties(self._document, first))
        write_blocks([page.lines for page in self._pages], build, end_page=self._end_page)
        attach_files(self._document, build)
        if build.is_blank:
            raise self._no_text()

    def _end_page(self, index: int) -> None:
        said = self._pages[index]
        for note in said.notes:
            self._build.paragraph(note)
        if said.lines or said.notes:
            self._build.paragraph("\n".join(said.targets))
        for file in said.files:
            attach(file, self._build)

    def _warn(self) -> None:
        if self._has_placeholder:
            self._build.warn(WarningCode.FORM_PLACEHOLDER)
        pictures = self._unread["pictures"]
        if pictures:
            self._build.warn(WarningCode.IMAGES_SKIPPED, *(f"page {number}" for number in pictures))

    def _no_text(self) -> NoTextFound:
        """Return the error for a document without text, which says why it has none."""
        has = "The PDF has 1 page" if self._count == 1 else f"The PDF has {self._count} pages"
        if self._has_placeholder:
            hint = WarningCode.FORM_PLACEHOLDER.hint
            return NoTextFound("The PDF is a form that only another program shows.", hint=hint)
        if self._unread["garbage"]:
            hint = WarningCode.FONT_WITHOUT_UNICODE.hint
            return NoTextFound(f"{has}, but its fonts do not tell which characters they show.", hint=hint)
        if self._unread["pictures"]:
            return NoTextFound(f"{has} and no text layer.", hint=ocr.HINT)
        if self._form:
            return NoTextFound(f"{has}: a form in which nothing is filled in and that has no other text.")
        if self._unread["shapes"]:
            return NoTextFound(f"{has} and no text layer: it has drawings only.", hint=_DRAWING_HINT)
        return NoTextFound(f"{has} and no text.")


def _objects(page: pypdfium2.PdfPage) -> Iterable[Any]:
    """Yield the first objects of a page, and those in its forms."""
    for index in range(min(raw.FPDFPage_CountObjects(page), _MAX_OBJECTS)):
        thing = raw.FPDFPage_GetObject(page, index)
        yield thing
        if raw.FPDFPageObj_GetType(thing) == raw.FPDF_PAGEOBJ_FORM:
            for inner in range(min(raw.FPDFFormObj_CountObjects(thing), _MAX_OBJECTS)):
                yield raw.FPDFFormObj_GetObject(thing, inner)


def _closed(text: str) -> str:
    """Return a text without white space."""
    return "".join(text.split())
