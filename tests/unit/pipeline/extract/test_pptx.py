"""Slides are read as a person reads them."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pptx
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.util import Inches

from emberq.errors.file_warnings import WarningCode
from emberq.pipeline.document import Document
from emberq.pipeline.extract import media
from tests.harness import sample_files as files

LINKS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
SLIDES = "http://schemas.openxmlformats.org/presentationml/2006/main"
DRAWING = "http://schemas.openxmlformats.org/drawingml/2006/main"


def deck(fill: Callable[[Any, Any], None], layout: int = 6) -> bytes:
    """Write a presentation with one slide."""
    presentation = pptx.Presentation()
    fill(presentation, presentation.slides.add_slide(presentation.slide_layouts[layout]))
    target = io.BytesIO()
    presentation.save(target)
    return target.getvalue()


def box(slide: Any, text: str, left: float, top: float, width: float = 2, height: float = 1) -> None:
    slide.shapes.add_textbox(Inches(left), Inches(top), Inches(width), Inches(height)).text_frame.text = text


def read(data: bytes) -> Document:
    return files.extract_bytes(data, media.PPTX)


def blocks(data: bytes) -> list[str]:
    return read(data).text.split("\n\n")


def linked(data: bytes, kind: str, target: str, content: str, **more: str) -> bytes:
    """Link a part to the first slide, and add others."""
    with files.open_zip(data) as archive:
        links = archive.read("ppt/slides/_rels/slide1.xml.rels").decode()
    link = f'<Relationship Id="rIdX" Type="{LINKS}/{kind}" Target="{target}"/></Relationships>'
    changed = {
        "ppt/slides/_rels/slide1.xml.rels": links.replace("</Relationships>", link),
        f"ppt/slides/{target}": content,
    }
    return files.replace_members(data, {name: text.encode() for name, text in {**changed, **more}.items()})


def test_a_chart_is_text() -> None:
    def fill(_deck: Any, slide: Any) -> None:
        data = CategoryChartData()
        data.categories = ["Kassel", "Fulda"]
        data.add_series("Sales", (4.5, 7.25))
        frame = slide.shapes.add_chart(XL_CHART_TYPE.COLUMN_CLUSTERED, 0, 0, Inches(4), Inches(3), data)
        frame.chart.has_title = True
        frame.chart.chart_title.text_frame.text = "Sales by place"

    assert blocks(deck(fill)) == ["Sales by place", "| Sales\nKassel | 4.5\nFulda | 7.25"]


def test_shapes_are_read_by_their_place() -> None:
    def fill(_deck: Any, slide: Any) -> None:
        box(slide, "right, below", 5, 4)
        box(slide, "right, above", 5, 2)
        box(slide, "left, below", 1, 4)
        box(slide, "left, above", 1, 2)
        box(slide, "at the top", 1, 0.5, width=8)

    assert blocks(deck(fill)) == ["at the top", "left, above", "left, below", "right, above", "right, below"]


def test_pairs_beside_each_other_are_read_line_by_line() -> None:
    def fill(_deck: Any, slide: Any) -> None:
        for at, text in enumerate(("first", "second", "third")):
            box(slide, text, 1.6, 1 + 2 * at, width=6)
            box(slide, str(at + 1), 1, 1 + 2 * at, width=0.5)

    assert blocks(deck(fill)) == ["1", "first", "2", "second", "3", "third"]


def test_a_placeholder_has_the_place_of_its_layout() -> None:
    def fill(_deck: Any, slide: Any) -> None:
        box(slide, "below", 1, 7)
        slide.shapes.title.text = "Title"
        slide.placeholders[1].text = "Body"

    data = deck(fill, layout=1)

    assert blocks(data) == ["Title", "Body", "below"]


def test_a_merged_cell_has_its_text_in_each_row() -> None:
    def fill(_deck: Any, slide: Any) -> None:
        table = slide.shapes.add_table(3, 3, 0, 0, Inches(4), Inches(3)).table
        for row, texts in enumerate((("Region", "Q1", "Q2"), ("North", "1", "2"), ("", "both", ""))):
            for column, text in enumerate(texts):
                table.cell(row, column).text = text
        table.cell(1, 0).merge(table.cell(2, 0))
        table.cell(2, 1).merge(table.cell(2, 2))

    assert blocks(deck(fill)) == ["Region | Q1 | Q2\nNorth | 1 | 2\nNorth | both"]


def test_pictures_are_their_description_or_counted() -> None:
    def fill(_deck: Any, slide: Any) -> None:
        box(slide, "words", 1, 1)
        for described in ("A red lorry", ""):
            picture = slide.shapes.add_picture(io.BytesIO(files.PNG), 0, Inches(5))
            picture._element.nvPicPr.cNvPr.set("descr", described)

    document = read(deck(fill))

    assert document.text == "words\n\nA red lorry"
    assert [(warning.code, warning.count) for warning in document.warnings] == [
        (WarningCode.IMAGES_SKIPPED, 1)
    ]


def test_links_numbers_and_hidden_slides() -> None:
    def fill(_deck: Any, slide: Any) -> None:
        frame = slide.shapes.add_textbox(0, 0, Inches(4), Inches(2)).text_frame
        frame.text = "see "
        run = frame.paragraphs[0].add_run()
        run.text = "our page"
        run.hyperlink.address = "https://example.org/page"
        for text, kind in (("one", "alphaLcParenR"), ("two", "alphaLcParenR")):
            paragraph = frame.add_paragraph()
            paragraph.text = text
            numbers = paragraph._p.get_or_add_pPr()
            numbers.append(numbers.makeelement(f"{{{DRAWING}}}buAutoNum", {"type": kind}))
        slide._element.set("show", "0")

    assert blocks(deck(fill)) == ["see our page (https://example.org/page)\na) one\nb) two"]


def test_comments_of_both_kinds_are_marked() -> None:
    def fill(_deck: Any, slide: Any) -> None:
        box(slide, "words", 1, 1)

    old = f'<p:cmLst xmlns:p="{SLIDES}"><p:cm authorId="0"><p:text>Too long.</p:text></p:cm></p:cmLst>'
    body = "<n:txBody><a:p><a:r><a:t>{}</a:t></a:r></a:p></n:txBody>"
    new = (
        f'<n:cmLst xmlns:n="urn:n" xmlns:a="{DRAWING}"><n:cm authorId="{{A}}">'
        f'<n:replyLst><n:reply authorId="{{B}}">{body.format("Agreed.")}</n:reply></n:replyLst>'
        f"{body.format('Too short.')}</n:cm></n:cmLst>"
    )
    data = deck(fill)
    with files.open_zip(data) as archive:
        links = archive.read("ppt/_rels/presentation.xml.rels").decode()
    link = f'<Relationship Id="rIdA" Type="{LINKS}/{{}}" Target="a.xml"/></Relationships>'

    def with_authors(kind: str, people: str) -> dict[str, str]:
        changed = links.replace("</Relationships>", link.format(kind))
        return {"ppt/_rels/presentation.xml.rels": changed, "ppt/a.xml": f"<people>{people}</people>"}

    first = linked(data, "comments", "c.xml", old, **with_authors("commentAuthors", '<p id="0" name="Zoë"/>'))
    second = linked(
        data,
        "comments",
        "c.xml",
        new,
        **with_authors("authors", '<p id="{A}" name="Ann"/><p id="{B}" name="Bob"/>'),
    )

    assert blocks(first)[1:] == ["Comment by Zoë: Too long."]
    assert blocks(second)[1:] == ["Comment by Ann: Too short.\nComment by Bob: Agreed."]


def test_an_embedded_workbook_is_read_under_its_name() -> None:
    def fill(_deck: Any, slide: Any) -> None:
        box(slide, "words", 1, 1)
        slide.shapes.add_ole_object(
            io.BytesIO(files.make_xlsx()), "Excel.Sheet.12", Inches(1), Inches(5), Inches(2), Inches(2)
        )

    assert "Sizes\n\nname | size" in read(deck(fill)).text


def test_the_foot_of_slides_is_read_once() -> None:
    foot = (
        f'<p:sp xmlns:p="{SLIDES}" xmlns:a="{DRAWING}"><p:nvSpPr><p:cNvPr id="9" name="F"/><p:cNvSpPr/>'
        '<p:nvPr><p:ph type="ftr" idx="11"/></p:nvPr></p:nvSpPr><p:spPr/><p:txBody><a:bodyPr/>'
        "<a:p><a:r><a:t>Confidential</a:t></a:r></a:p></p:txBody></p:sp>"
    )

    def fill(presentation: Any, slide: Any) -> None:
        box(slide, "one", 1, 1)
        second = presentation.slides.add_slide(presentation.slide_layouts[6])
        box(second, "two", 1, 1)
        for each in (slide, second):
            each.shapes._spTree.append(pptx.oxml.parse_xml(foot))

    assert read(deck(fill)).text.count("Confidential") == 1
