"""One PDF with a marker word for each thing that a PDF can say."""

from __future__ import annotations

import re
from typing import Final

from emberq.pipeline.extract import media
from tests.harness.pdf_files import PdfFile, lines_at, text_at
from tests.harness.sample_files import extract_bytes

#: What a PDF can say, and the word that stands for it.
FEATURES: Final = {
    name: f"zq{chr(97 + number // 26)}{chr(97 + number % 26)}x"
    for number, name in enumerate(
        (
            *("title", "author", "subject", "keywords", "outline", "heading", "paragraph", "table cell"),
            *("word divided at the end of a line", "bullet", "superscript", "text in a form object"),
            *("turned text", "turned page", "invisible text of a scan", "left column", "right column"),
            *("text field", "field of several lines", "label of a box", "choice", "list", "hint of a field"),
            *("note", "note on a highlight", "typed text", "stamp", "target of a link"),
            *("name of an attachment", "text of an attachment", "attachment of a page"),
        )
    )
}


def make_features_pdf() -> bytes:
    """Return the file."""
    word = dict(FEATURES)
    pdf = PdfFile()
    note = b"<</Type/Annot/Subtype/%s/Rect[300 300 320 320]/Contents(%s)>>"
    field = b"<</Type/Annot/Subtype/Widget/F 4%s>>"
    stamp = pdf.form(text_at(2, 5, word["stamp"]))
    shape = pdf.form(text_at(2, 5, word["text in a form object"]))
    on_page = pdf.stream(f"words {word['attachment of a page']}\n".encode(), b"/Type/EmbeddedFile")
    fields = [
        field % entries.encode()
        for entries in (
            f"/FT/Tx/T(a)/V({word['text field']})/Rect[150 395 350 412]",
            f"/FT/Tx/Ff 4096/T(b)/V(one\\n{word['field of several lines']})/Rect[150 300 350 390]",
            "/FT/Btn/T(c)/AS/On/V/On/Rect[60 278 74 292]",
            f"/FT/Ch/Ff 131072/T(d)/Opt[[(1)(x)][(2)({word['choice']})]]/V(2)/Rect[150 255 350 272]",
            f"/FT/Ch/T(e)/Opt[(y)({word['list']})]/V({word['list']})/Rect[150 200 350 250]",
            f"/FT/Tx/T(f)/TU({word['hint of a field']})/V(z)/Rect[400 100 500 117]",
        )
    ]
    fields = [b"%d 0 R" % pdf.add(entry) for entry in fields]
    divided = word["word divided at the end of a line"]
    first = pdf.page(
        text_at(60, 740, f"Heading {word['heading']}", size=20)
        + lines_at(60, 700, [f"Paragraph {word['paragraph']} with", "words zq-"])
        + text_at(60, 671.4, divided[2:])
        + text_at(60, 640, "Cell")
        + text_at(200, 640, word["table cell"])
        + text_at(60, 620, "• " + word["bullet"])
        + text_at(60, 600, "E = mc")
        + text_at(98, 604, word["superscript"], size=7)
        + b"q 1 0 0 1 60 560 cm /S Do Q\n"
        + b"q 0 1 -1 0 560 500 cm "
        + text_at(0, 0, f"Text at the side {word['turned text']}")
        + b"Q 3 Tr "
        + text_at(60, 540, word["invisible text of a scan"])
        + b"0 Tr "
        + text_at(60, 400, "Name:")
        + text_at(80, 280, word["label of a box"])
        + text_at(60, 260, "Choice:"),
        annotations=[
            *(note % (b"Text", word["note"].encode()), note % (b"FreeText", word["typed text"].encode())),
            note % (b"Highlight", word["note on a highlight"].encode()),
            b"<</Type/Annot/Subtype/Stamp/F 4/Rect[400 40 590 60]/AP<</N %d 0 R>>>>" % stamp,
            b"<</Type/Annot/Subtype/Link/Rect[9 9 20 20]/A<</S/URI/URI(https://example.org/%s)>>>>"
            % word["target of a link"].encode(),
            b"<</Type/Annot/Subtype/FileAttachment/Rect[9 9 20 20]/FS<</F(a.txt)/EF<</F %d 0 R>>>>>>"
            % on_page,
        ],
        objects=b"/S %d 0 R" % shape,
    )
    pdf.replace(first, b"/Annots[", b"/Annots[%s " % b" ".join(fields))
    pdf.page(
        b"q 0 1 -1 0 600 0 cm " + text_at(60, 500, f"A page that lies {word['turned page']}") + b"Q",
        rotate=90,
    )
    left = [f"The left column has a line {n} {word['left column']}" for n in range(5)]
    right = [f"and the right one has {n} too {word['right column']}" for n in range(5)]
    pdf.page(
        b"".join(
            text_at(x, 700 - 15 * n, column[n]) for n in range(5) for x, column in ((60, left), (320, right))
        )
    )
    outline = pdf.add(b"<</Title(%s)/Dest[%d 0 R/Fit]>>" % (word["outline"].encode(), first))
    attached = pdf.stream(f"words {word['text of an attachment']}\n".encode(), b"/Type/EmbeddedFile")
    name = f"{word['name of an attachment']}.txt".encode()
    return pdf.finish(
        catalog=b"/Outlines<</First %d 0 R>>/AcroForm<</Fields[%s]>>"
        b"/Names<</EmbeddedFiles<</Names[(a)<</F(%s)/UF(%s)/EF<</F %d 0 R>>>>]>>>>"
        % (outline, b" ".join(fields), name, name, attached),
        information="".join(
            f"/{key}({word[key.lower()]})" for key in ("Title", "Author", "Subject", "Keywords")
        ).encode(),
    )


def found_features() -> dict[str, bool]:
    """Return for each feature whether the file's text has its word as a word."""
    words = set(re.findall(r"\w+", extract_bytes(make_features_pdf(), media.PDF).text))
    return {name: marker in words for name, marker in FEATURES.items()}
