"""PDF by reportlab: small pages, a running page number, no compression."""

from __future__ import annotations

from io import BytesIO
from xml.sax.saxutils import escape

from corpus_sources.blocks import Block, Kind, parse
from reportlab.lib import colors
from reportlab.lib.pagesizes import A5
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    Flowable,
    ListFlowable,
    PageBreak,
    Paragraph,
    SimpleDocTemplate,
    Spacer,
    Table,
    TableStyle,
)

__all__ = ["make_pdf"]

#: Points of white around the text.
MARGIN = 42

GRID = TableStyle(
    [("GRID", (0, 0), (-1, -1), 0.5, colors.grey), ("BACKGROUND", (0, 0), (-1, 0), colors.whitesmoke)]
)


def _flowable(block: Block) -> Flowable:
    styles = getSampleStyleSheet()
    body = styles["BodyText"]
    match block.kind:
        case Kind.HEADING:
            return Paragraph(escape(block.text), styles[f"Heading{block.level}"])
        case Kind.PAGE_BREAK:
            return PageBreak()
        case Kind.BULLETS:
            items = [Paragraph(escape(text), body) for (text,) in block.rows]
            return ListFlowable(items, bulletType="bullet", leftIndent=12, start="•")
        case Kind.TABLE:
            cells = [[Paragraph(escape(cell), body) for cell in row] for row in block.rows]
            return Table(cells, style=GRID, hAlign="LEFT", spaceBefore=6, spaceAfter=6)
        case _:
            return Paragraph(escape(block.text), body)


def _number_page(canvas: Canvas, document: SimpleDocTemplate) -> None:
    canvas.setFont("Helvetica", 8)
    canvas.drawCentredString(A5[0] / 2, MARGIN / 2, str(document.page))


def make_pdf(source: str) -> bytes:
    """Render a source, a `---` in it being a page break."""
    blocks = list(parse(source))
    out = BytesIO()
    document = SimpleDocTemplate(
        out,
        pagesize=A5,
        leftMargin=MARGIN,
        rightMargin=MARGIN,
        topMargin=MARGIN,
        bottomMargin=MARGIN,
        title=blocks[0].text,
        author="emberq sample corpus",
        # A date and an identifier that do not change from run to run.
        invariant=1,
        # Compressed bytes differ between builds of zlib; plain ones do not.
        pageCompression=0,
    )
    story = [_flowable(block) for block in blocks]
    document.build([*story, Spacer(1, 1)], onFirstPage=_number_page, onLaterPages=_number_page)
    return out.getvalue()
