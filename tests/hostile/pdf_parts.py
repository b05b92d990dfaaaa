"""Hostile PDF files, in what lies beside the text: forms, notes, outline, attached files; and in its order."""

from __future__ import annotations

import random
from collections.abc import Iterator

from tests.harness.pdf_files import PdfFile, lines_at, text_at
from tests.hostile.kinds import HostileFile

_MIB = 1 << 20


def pdf_part_files() -> Iterator[HostileFile]:
    """Yield the files; each is at most a few mebibytes."""
    yield HostileFile("fields.pdf", lambda: _form(30_000, b"/FT/Tx/V(a value)", same_row=False), "document")
    yield HostileFile("fields-in-a-row.pdf", lambda: _form(8_000, b"/FT/Tx/V(v)", same_row=True), "document")
    yield HostileFile("options.pdf", _options)
    yield HostileFile("appearance-cycle.pdf", _appearance_cycle)
    yield HostileFile("notes.pdf", _notes, "document")
    yield HostileFile("outline-cycle.pdf", lambda: _outline(2, cycle=True), "document")
    yield HostileFile("outline-wide.pdf", lambda: _outline(40_000, cycle=False), "document")
    # pdfium unpacks an attachment to tell its size; the limit on memory may come before the one on that size.
    yield HostileFile("attachment-bomb.pdf", lambda: _attached(bytes(300 * _MIB), 1))
    yield HostileFile("attachment-again.pdf", lambda: _attached(b"word " * 200_000, 2_000))
    yield HostileFile("shuffled.pdf", _shuffled, "document")
    yield HostileFile("turned-letters.pdf", _turned_letters)
    yield HostileFile("unmapped.pdf", _unmapped, "no_text_found")


def _form(count: int, entries: bytes, *, same_row: bool) -> bytes:
    pdf = PdfFile()
    fields = []
    for number in range(count):
        x, y = (number % 500, 700) if same_row else (50 + number % 400, number % 750)
        place = b"/Rect[%d %d %d %d]" % (x, y, x + 20, y + 12)
        fields.append(b"%d 0 R" % pdf.add(b"<</Subtype/Widget/T(%d)%s%s>>" % (number, entries, place)))
    page = pdf.page(text_at(20, 702, "word " * 2_000, size=1) + lines_at(20, 690, ["line"] * 40, size=9))
    pdf.replace(page, b"/Annots[]", b"/Annots[%s]" % b" ".join(fields))
    return pdf.finish(catalog=b"/AcroForm<</Fields[%s]>>" % b" ".join(fields))


def _options() -> bytes:
    """Return a form whose lists share one array of many chosen choices."""
    pdf = PdfFile()
    options = pdf.add(b"[%s]" % (b"(a choice)" * 20_000))
    fields = [
        b"%d 0 R"
        % pdf.add(
            b"<</Subtype/Widget/FT/Ch/Ff 2097152/T(%d)/Opt %d 0 R/V %d 0 R/Rect[9 9 90 20]>>"
            % (number, options, options)
        )
        for number in range(20)
    ]
    page = pdf.page(text_at(20, 700, "word"))
    pdf.replace(page, b"/Annots[]", b"/Annots[%s]" % b" ".join(fields))
    return pdf.finish(catalog=b"/AcroForm<</Fields[%s]>>" % b" ".join(fields))


def _appearance_cycle() -> bytes:
    """Return a page of stamps whose appearance calls itself."""
    pdf = PdfFile()
    drawn = pdf.form(b"/F Do /F Do")
    pdf.replace(drawn, b"/Font<<", b"/XObject<</F %d 0 R>>/Font<<" % drawn)
    stamp = b"<</Subtype/Stamp/F 4/Rect[9 9 90 20]/AP<</N %d 0 R>>>>" % drawn
    pdf.page(text_at(20, 700, "word"), annotations=[stamp] * 200)
    return pdf.finish()


def _notes() -> bytes:
    pdf = PdfFile()
    note = b"<</Subtype/Text/Rect[9 9 90 20]/Contents(note %d)>>"
    link = b"<</Subtype/Link/Rect[9 9 90 20]/A<</S/URI/URI(https://a.example/%d)>>>>"
    annotations = [(note if number % 2 else link) % number for number in range(30_000)]
    pdf.page(lines_at(20, 700, ["some words in a line"] * 60, size=9), annotations=annotations)
    return pdf.finish()


def _outline(count: int, *, cycle: bool) -> bytes:
    pdf = PdfFile()
    page = pdf.page(lines_at(20, 780, ["title of a chapter"] * 80, size=7))
    first = page + 2
    for number in range(count):
        following = first if cycle else first + number + 1
        title = b"<</Title(title %d)/Dest[%d 0 R/Fit]/First %d 0 R/Next %d 0 R>>"
        pdf.add(title % (number, page, first if cycle else 1, following))
    return pdf.finish(catalog=b"/Outlines<</First %d 0 R>>" % (first - 1))


def _attached(data: bytes, count: int) -> bytes:
    pdf = PdfFile()
    pdf.page(text_at(20, 700, "word"))
    stream = pdf.stream(data, b"/Type/EmbeddedFile")
    files = b"".join(
        b"(%06d)<</F(%d.txt)/EF<</F %d 0 R>>>>" % (number, number, stream) for number in range(count)
    )
    return pdf.finish(catalog=b"/Names<</EmbeddedFiles<</Names[%s]>>>>" % files)


def _shuffled() -> bytes:
    """Return a page of many lines that are drawn anyhow, side by side and one over the other."""
    chance = random.Random(1)
    pdf = PdfFile()
    pdf.page(
        b"".join(
            text_at(chance.randrange(500), chance.randrange(780), "a few words", size=6)
            for _ in range(20_000)
        )
    )
    return pdf.finish()


def _turned_letters() -> bytes:
    pdf = PdfFile()
    turns = (b"1 0 0 1", b"0 1 -1 0", b"-1 0 0 -1", b"0 -1 1 0", b".7 .7 -.7 .7")
    pdf.page(
        b"".join(
            b"BT /F 9 Tf %s %d %d Tm (ab) Tj ET\n" % (turns[n % 5], n % 580, n * 7 % 780)
            for n in range(40_000)
        )
    )
    return pdf.finish()


def _unmapped() -> bytes:
    pdf = PdfFile()
    pdf.page(b"BT /U 2 Tf 9 700 Td " + b"<0041004200430044> Tj " * 50_000 + b"ET")
    return pdf.finish()
