"""What lies beside a PDF's text is read too: forms, notes, stamps, links, files, outline and title."""

from __future__ import annotations

import pytest

from emberq.errors import NoTextFound
from emberq.errors.file_warnings import WarningCode
from emberq.pipeline.document import Document, SegmentKind
from emberq.pipeline.extract import media
from tests.harness.pdf_features import FEATURES, found_features
from tests.harness.pdf_files import PdfFile, lines_at, text_at
from tests.harness.sample_files import extract_bytes


def read(data: bytes) -> Document:
    return extract_bytes(data, media.PDF)


def blocks(document: Document) -> list[str]:
    return [document.text[s.start : s.end] for s in document.segments]


def form(content: bytes, *fields: bytes, listed: bool = True) -> bytes:
    """Return a page with the fields of a form."""
    pdf = PdfFile()
    numbers = [pdf.add(b"<</Type/Annot/Subtype/Widget/F 4%s>>" % field) for field in fields]
    references = b" ".join(b"%d 0 R" % number for number in numbers)
    page = pdf.page(content)
    # The page's own list of annotations has references to them.
    pdf.replace(page, b"/Annots[]", b"/Annots[%s]" % references)
    return pdf.finish(catalog=b"/AcroForm<</Fields[%s]>>" % (references if listed else b""))


def test_the_value_of_a_field_stands_behind_its_label() -> None:
    data = form(
        text_at(60, 700, "Name:") + text_at(60, 670, "Plate:") + text_at(60, 600, "Signed in Bonn."),
        b"/FT/Tx/T(a)/V(Erika Mustermann)/Rect[150 695 350 715]",
        b"/FT/Tx/T(b)/V(KS-EM 4711)/Rect[150 665 350 685]",
    )

    assert read(data).text.split("\n")[:2] == ["Name: Erika Mustermann", "Plate: KS-EM 4711"]


def test_a_value_stands_at_its_gap_in_a_line() -> None:
    data = form(
        text_at(60, 700, "I, ") + text_at(200, 700, "born in ") + text_at(400, 700, "declare this."),
        b"/FT/Tx/T(a)/V(Erika)/Rect[80 695 190 715]",
        b"/FT/Tx/T(b)/V(Bonn)/Rect[250 695 390 715]",
    )

    assert read(data).text == "I, Erika born in Bonn declare this."


def test_a_value_over_a_word_does_not_part_it() -> None:
    data = form(text_at(60, 700, "Interior department"), b"/FT/Tx/T(a)/V(x)/Rect[62 695 90 715]")

    assert read(data).text == "x Interior department"


def test_boxes_stand_before_what_they_mean_and_tell_their_state() -> None:
    data = form(
        text_at(80, 700, "Yes") + text_at(180, 700, "No"),
        b"/FT/Btn/T(a)/AS/On/V/On/Rect[60 698 74 712]/AP<</N<</On null/Off null>>>>",
        b"/FT/Btn/T(b)/AS/Off/Rect[160 698 174 712]",
    )

    assert read(data).text == "\u2612 Yes \u2610 No"


def test_a_choice_shows_its_label_and_not_its_code() -> None:
    data = form(
        text_at(60, 700, "Country"),
        b"/FT/Ch/Ff 131072/T(a)/Opt[[(de)(Germany)][(fr)(France)]]/V(fr)/Rect[150 695 350 715]",
    )

    assert read(data).text == "Country France"


def test_a_field_without_a_line_beside_it_is_named() -> None:
    data = form(b"", b"/FT/Tx/T(first name)/V(Erika)/Rect[150 695 350 715]")
    hinted = form(b"", b"/FT/Tx/T(f1)/TU(Your first name)/V(Erika)/Rect[150 695 350 715]")

    assert read(data).text == "first name: Erika"
    assert read(hinted).text == "Your first name: Erika"


def test_passwords_and_hidden_fields_are_not_read() -> None:
    data = form(
        text_at(60, 700, "Login"),
        b"/FT/Tx/Ff 8192/T(a)/V(secret)/Rect[150 695 350 715]",
        b"/FT/Tx/F 2/T(b)/V(unseen)/Rect[150 665 350 685]",
    ).replace(b"/F 4/FT/Tx/F 2", b"/FT/Tx/F 2")

    assert read(data).text == "Login"


def test_the_value_of_a_field_that_the_form_does_not_list_is_read_as_it_is_drawn() -> None:
    pdf = PdfFile()
    drawn = pdf.form(text_at(2, 5, "Erika"))
    pdf.page(
        text_at(60, 700, "Name:"),
        annotations=[
            b"<</Type/Annot/Subtype/Widget/F 4/Rect[150 695 350 715]/AP<</N %d 0 R>>>>" % drawn,
        ],
    )

    assert read(pdf.finish()).text == "Name: Erika"


def test_an_empty_form_is_no_scan() -> None:
    with pytest.raises(NoTextFound) as caught:
        read(form(b"", b"/FT/Tx/T(a)/Rect[150 695 350 715]"))

    assert "form" in caught.value.message
    assert "OCR" not in caught.value.message + caught.value.hint


def test_drawings_are_no_scan_and_pictures_are() -> None:
    drawing, scan = PdfFile(), PdfFile()
    drawing.page(b"10 10 200 300 re f")
    scan.page(b"q 500 0 0 700 0 0 cm /I Do Q", objects=b"/I %d 0 R" % scan.picture())

    with pytest.raises(NoTextFound) as drawn:
        read(drawing.finish())
    with pytest.raises(NoTextFound) as scanned:
        read(scan.finish())

    assert "OCR" not in drawn.value.message + drawn.value.hint
    assert "OCR" in scanned.value.hint


def test_pages_with_pictures_only_are_told() -> None:
    pdf = PdfFile()
    picture = b"/I %d 0 R" % pdf.picture()
    pdf.page(text_at(60, 700, "Words."))
    pdf.page(b"q 500 0 0 700 0 0 cm /I Do Q", objects=picture)
    pdf.page(b"")

    (warning,) = read(pdf.finish()).warnings

    assert (warning.code, warning.count, warning.names) == (WarningCode.IMAGES_SKIPPED, 1, ("page 2",))


def test_notes_stamps_and_typed_text_are_read_once() -> None:
    pdf = PdfFile()
    stamp = pdf.form(text_at(2, 5, "APPROVED"))
    pdf.page(
        text_at(60, 700, "The contract ends in May."),
        annotations=[
            b"<</Type/Annot/Subtype/Text/Rect[300 700 320 720]/Contents(Ask the lawyer.)>>",
            b"<</Type/Annot/Subtype/Highlight/Rect[60 700 90 710]/Contents(The contract ends)>>",
            b"<</Type/Annot/Subtype/FreeText/Rect[60 600 200 620]/Contents(typed onto it)>>",
            b"<</Type/Annot/Subtype/Stamp/F 4/Rect[300 300 500 320]/AP<</N %d 0 R>>>>" % stamp,
            b"<</Type/Annot/Subtype/Popup/Rect[0 0 9 9]/Contents(Ask the lawyer.)>>",
            b"<</Type/Annot/Subtype/Text/F 2/Rect[300 700 320 720]/Contents(unseen)>>",
        ],
    )

    assert read(pdf.finish()).text.split() == (
        ["The", "contract", "ends", "in", "May.", "typed", "onto", "it", "APPROVED", "Ask", "the", "lawyer."]
    )


def test_the_targets_of_links_are_named_once_unless_the_text_names_them() -> None:
    link = b"<</Type/Annot/Subtype/Link/Rect[60 700 90 710]/A<</S/URI/URI(%s)>>>>"
    pdf = PdfFile()
    targets = (b"https://example.org/a", b"https://example.org/b", b"https://example.org/a", b"javascript:x")
    pdf.page(
        text_at(60, 700, "Click here. See example.org/b."), annotations=[link % target for target in targets]
    )
    pdf.page(text_at(60, 700, "Page two."), annotations=[link % targets[0]])

    assert blocks(read(pdf.finish())) == [
        "Click here. See example.org/b.",
        "https://example.org/a",
        "Page two.",
    ]


def test_attached_files_are_read() -> None:
    pdf = PdfFile()
    table = pdf.stream(b"item,price\nbox,19.90\n", b"/Type/EmbeddedFile")
    note = pdf.stream(b"Words of a note.\n", b"/Type/EmbeddedFile")
    file = b"<</Type/Filespec/F(%s)/UF(%s)/EF<</F %d 0 R>>>>"
    on_page = b"<</Type/Annot/Subtype/FileAttachment/Rect[9 9 20 20]/FS %s>>"
    pdf.page(
        text_at(60, 700, "The invoice."), annotations=[on_page % (file % (b"note.txt", b"note.txt", note))]
    )
    names = b"/Names<</EmbeddedFiles<</Names[(a)%s]>>>>" % (file % (b"items.csv", b"items.csv", table))

    document = read(pdf.finish(catalog=names))

    assert blocks(document) == [
        "The invoice.",
        "note.txt",
        "Words of a note.",
        "items.csv",
        "item | price\nbox | 19.90",
    ]


def test_the_outline_tells_what_is_a_heading() -> None:
    pdf = PdfFile()
    page = pdf.page(lines_at(60, 700, ["1.2 Scope of the", "agreement", "It applies to all.", "Scope"]))
    titles = (b"Chapter one", b"Scope of the agreement")
    first = pdf.add(b"<</Title(%s)/Dest[%d 0 R/Fit]/First 99 0 R>>" % (titles[0], page))
    second = pdf.add(b"<</Title(%s)/Dest[%d 0 R/Fit]/Next %d 0 R>>" % (titles[1], page, first))
    pdf.replace(first, b"99", b"%d" % second)

    document = read(pdf.finish(catalog=b"/Outlines<</First %d 0 R>>" % first))

    assert [
        (s.level, document.text[s.start : s.end]) for s in document.segments if s.kind is SegmentKind.HEADING
    ] == [(1, "Chapter one"), (2, "1.2 Scope of the agreement")]


def test_title_author_subject_and_keywords_come_first_unless_the_page_has_them() -> None:
    information = b"/Title(Annual report)/Author(Erika M.)/Subject(unspecified)/Keywords(boxes, racks)"
    pdf = PdfFile()
    pdf.page(text_at(60, 700, "ANNUAL REPORT of the year"))

    assert blocks(read(pdf.finish(information=information))) == [
        "Erika M.\nboxes, racks",
        "ANNUAL REPORT of the year",
    ]


@pytest.mark.parametrize(
    "title", [b"untitled", b"Microsoft Word - a b.doc", b"scan0001.pdf", b"(anonymous\\)"]
)
def test_what_a_program_wrote_as_a_title_is_none(title: bytes) -> None:
    pdf = PdfFile()
    pdf.page(text_at(60, 700, "Words."))

    assert read(pdf.finish(information=b"/Title(%s)" % title)).text == "Words."


def test_a_title_alone_is_no_text() -> None:
    pdf = PdfFile()
    pdf.page(b"")

    with pytest.raises(NoTextFound):
        read(pdf.finish(information=b"/Title(Annual report)"))


_PLACEHOLDER = [
    "Please wait...",
    "If this message is not eventually replaced by the proper contents of the document, your PDF",
    "viewer may not be able to display this type of document.",
]


def test_the_placeholder_of_a_form_is_no_success() -> None:
    pdf = PdfFile()
    pdf.page(lines_at(60, 700, _PLACEHOLDER))

    with pytest.raises(NoTextFound) as caught:
        read(pdf.finish())

    assert "form" in caught.value.message
    assert "OCR" not in caught.value.hint


def test_the_placeholder_in_another_language_is_told_by_the_kind_of_the_form() -> None:
    pdf = PdfFile()
    packet = pdf.stream(b"<xdp/>")
    pdf.page(lines_at(60, 700, ["Bitte warten ...", "Die Anzeige wird vorbereitet."]))

    with pytest.raises(NoTextFound, match="another program"):
        read(pdf.finish(catalog=b"/NeedsRendering true/AcroForm<</Fields[]/XFA %d 0 R>>" % packet))


def test_the_placeholder_beside_other_pages_is_a_warning() -> None:
    pdf = PdfFile()
    pdf.page(lines_at(60, 700, _PLACEHOLDER))
    pdf.page(text_at(60, 700, "A real page."))

    document = read(pdf.finish())

    assert document.text == "A real page."
    assert [warning.code for warning in document.warnings] == [WarningCode.FORM_PLACEHOLDER]


def _unmapped(count: int) -> bytes:
    return b"BT /U 11 Tf 60 600 Td <%s> Tj ET" % b"".join(b"%04x" % (0x41 + i % 9) for i in range(count))


def test_a_font_without_unicode_is_no_success() -> None:
    pdf = PdfFile()
    pdf.page(_unmapped(60))

    with pytest.raises(NoTextFound, match="fonts"):
        read(pdf.finish())


def test_a_page_in_a_font_without_unicode_is_a_warning_and_its_codes_are_left_out() -> None:
    pdf = PdfFile()
    pdf.page(text_at(60, 700, "A real page with some words.") + _unmapped(60))

    document = read(pdf.finish())

    assert document.text == "A real page with some words."
    assert [(w.code, w.names) for w in document.warnings] == [(WarningCode.FONT_WITHOUT_UNICODE, ("page 1",))]


def test_everything_that_a_pdf_can_say_is_read() -> None:
    lost = [name for name, is_found in found_features().items() if not is_found]

    assert len(FEATURES) == 31
    assert lost == []
