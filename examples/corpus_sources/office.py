"""DOCX, PPTX and XLSX by python-docx, python-pptx and openpyxl."""

from __future__ import annotations

from io import BytesIO
from typing import Any
from zipfile import ZipFile

from corpus_sources.archives import WRITTEN, repack
from corpus_sources.blocks import Block, Kind, parse, sections
from docx import Document
from docx.document import Document as WordDocument
from lxml import etree
from openpyxl import Workbook
from openpyxl.styles import Font
from openpyxl.writer.excel import ExcelWriter
from pptx import Presentation
from pptx.util import Emu, Pt

__all__ = ["make_docx", "make_pptx", "make_xlsx"]

#: The styles that the documents use; the template's other 150 would make up most of the file.
STYLES = {"Normal", "Title", "Heading 1", "Heading 2", "List Bullet", "Table Grid", "Normal Table"}

#: Default slide layouts of python-pptx's template: title, title and content, title only.
TITLE, CONTENT, TITLE_ONLY = 0, 1, 5


def _stamp(properties: Any, title: str) -> None:
    properties.title = title
    properties.author = properties.last_modified_by = "emberq sample corpus"
    properties.created = properties.modified = WRITTEN


def _slim(document: WordDocument) -> None:
    for style in list(document.styles):
        if style.name not in STYLES:
            style.delete()
    for element in document.styles.element.iter(etree.Element):
        if element.tail and not element.tail.strip():
            element.tail = None
    for source, targets in (
        (document.part, {"stylesWithEffects"}),
        (document.part.package, {"thumbnail"}),
    ):
        for key, relation in list(source.rels.items()):
            if relation.reltype.rsplit("/", 1)[-1] in targets:
                del source.rels[key]


def _add_to_docx(document: WordDocument, block: Block) -> None:
    match block.kind:
        case Kind.HEADING:
            document.add_heading(block.text, block.level - 1)
        case Kind.BULLETS:
            for (text,) in block.rows:
                document.add_paragraph(text, "List Bullet")
        case Kind.TABLE:
            table = document.add_table(0, len(block.rows[0]), "Table Grid")
            for row in block.rows:
                for cell, text in zip(table.add_row().cells, row, strict=True):
                    cell.text = text
            document.add_paragraph()
        case _:
            document.add_paragraph(block.text)


def make_docx(source: str) -> bytes:
    """Render a source as a text document with headings, lists and tables."""
    blocks = list(parse(source))
    document = Document()
    _slim(document)
    _stamp(document.core_properties, blocks[0].text)
    for block in blocks:
        _add_to_docx(document, block)
    out = BytesIO()
    document.save(out)
    return repack(out.getvalue())


def _fill_slide(slide: Any, title: str, body: list[Block], *, is_cover: bool) -> None:
    slide.shapes.title.text = title
    for block in body:
        match block.kind:
            case Kind.NOTE:
                slide.notes_slide.notes_text_frame.text = block.text
            case Kind.BULLETS:
                slide.placeholders[1].text = "\n".join(text for (text,) in block.rows)
            case Kind.PARAGRAPH if is_cover:
                slide.placeholders[1].text = block.text
            case Kind.TABLE:
                width, height = Emu(8_200_000), Emu(370_000 * len(block.rows))
                frame = slide.shapes.add_table(
                    len(block.rows), len(block.rows[0]), Emu(470_000), Emu(1_700_000), width, height
                )
                for cell, text in zip(
                    frame.table.iter_cells(), (text for row in block.rows for text in row), strict=True
                ):
                    cell.text = text
                    cell.text_frame.paragraphs[0].font.size = Pt(16)
            case other:
                raise ValueError(f"a slide cannot hold a {other}")


def make_pptx(source: str) -> bytes:
    """Render a source as slides, one for each heading, with `>` lines as the speaker's notes."""
    presentation = Presentation()
    slides = list(sections(parse(source), level=2))
    _stamp(presentation.core_properties, slides[0][0])
    for number, (title, body) in enumerate(slides):
        has_table = any(block.kind is Kind.TABLE for block in body)
        layout = TITLE if number == 0 else TITLE_ONLY if has_table else CONTENT
        slide = presentation.slides.add_slide(presentation.slide_layouts[layout])
        _fill_slide(slide, title, body, is_cover=number == 0)
    for layout in [each for each in presentation.slide_layouts if not each.used_by_slides]:
        presentation.slide_layouts.remove(layout)
    out = BytesIO()
    presentation.save(out)
    return repack(out.getvalue())


def _value(cell: str) -> str | float | int:
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell


def make_xlsx(source: str) -> bytes:
    """Render a source as a workbook, one sheet for each heading of level two."""
    title, *sheets = sections(parse(source), level=2)
    workbook = Workbook()
    workbook.remove(workbook.active)
    for name, body in sheets:
        sheet = workbook.create_sheet(name)
        for row in body[0].rows:
            sheet.append([_value(cell) for cell in row])
        for cell in sheet[1]:
            cell.font = Font(bold=True)
    properties = workbook.properties
    properties.title, properties.creator = title[0], "emberq sample corpus"
    properties.created = properties.modified = WRITTEN
    out = BytesIO()
    # Workbook.save would put the present time into the file.
    ExcelWriter(workbook, ZipFile(out, "w")).save()
    return repack(out.getvalue())
