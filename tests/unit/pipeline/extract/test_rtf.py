"""RTF: its text as Word shows it."""

from __future__ import annotations

import io
import time

import pytest

from emberq.errors import CorruptFile, NoTextFound
from emberq.errors.file_warnings import WarningCode
from emberq.pipeline.document import Document, SegmentKind
from emberq.pipeline.extract import media
from emberq.pipeline.extract.detect import detect_stream
from emberq.pipeline.extract.read import extract_stream

HEAD = (
    rb"{\rtf1\ansi\ansicpg1252\deff0{\fonttbl{\f0\fswiss\fcharset0 Arial;}"
    rb"{\f1\froman\fcharset204 Times New Roman;}{\f2\fnil\fcharset128 MS Mincho;}"
    rb"{\f3\ftech\fcharset2{\*\panose 05}Symbol;}"
    rb"{\f4\fnil\fcharset238 Arial CE;}}"
    rb"{\colortbl;\red0\green0\blue0;}{\stylesheet{\s0 Normal;}{\s1\sbasedon0 heading 1;}"
    rb"{\s2\outlinelevel1\sbasedon0 \'dcberschrift 2;}{\s9 Title;}}"
)


def _read(body: bytes) -> Document:
    stream = io.BytesIO(HEAD + body + b"}")
    kind = detect_stream(stream, name="a.txt")
    assert kind == media.RTF
    return extract_stream(stream, media_type=kind)


def _pieces(document: Document) -> list[tuple[str, int, str]]:
    return [(s.kind.value, s.level, document.text[s.start : s.end]) for s in document.segments]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (rb"Gr\'f6\'dfe", "Größe"),
        (rb"\f1 \'cf\'f0\'e8\'e2\'e5\'f2", "Привет"),
        (rb"{\f1\'cf\'f0\'e8}\'e4", "Приä"),
        (rb"\f2 \'93\'8c\'8b\'9e", "東京"),
        (rb"\f2 \'95\\ \'83A", "表 ア"),
        (rb"\f4 P\'f8\'edli\'9a \'9elu\'9dou\'e8k\'fd", "Příliš žluťoučký"),
        ("raw bytes: Größe".encode("cp1252"), "raw bytes: Größe"),
        (rb"\u26481\'93\'8c\u20140?", "東\x8c京".replace("\x8c", "Œ")),
        (rb"\uc2\u26481\'93\'8c\u20140\'8b\'9e", "東京"),
        (rb"{\uc0 \u26481\u20140} end", "東京 end"),
        (rb"\u-10179?\u-8704?", "\U0001f600"),
        (rb"\u8364\u8364 no fallback", "€€o fallback"),
        (rb"\{braces\} \\ a\~b\_c\-d", "{braces} \\ a\u00a0b\u2011cd"),
        (rb"\ldblquote said\rdblquote\emdash it\rquote s", "\u201csaid\u201d\u2014it\u2019s"),
        (rb"{\f3 \'b7}\tab bullet {\f3 ab}", "•\tbullet αβ"),
        (rb"\u-3913?\tab private", "•\tprivate"),
        (rb"seen{\v hidden}{\deleted gone} too", "seen too"),
        (rb"{\upr{old}{\*\ud{new \u233?}}} form", "new é form"),
        (b"one\r\ntwo\r\n", "onetwo"),
    ],
)
def test_characters(body: bytes, text: str) -> None:
    assert _read(body).text == text


def test_headings_by_style_and_outline() -> None:
    document = _read(
        rb"\pard\s9 The title\par\pard\s1 First\par\pard plain\par{\pard\s2 Second\par}"
        rb"\pard\outlinelevel2 Third\par\pard end\par"
    )

    assert _pieces(document) == [
        ("heading", 1, "The title"),
        ("heading", 1, "First"),
        ("paragraph", 0, "plain"),
        ("heading", 2, "Second"),
        ("heading", 3, "Third"),
        ("paragraph", 0, "end"),
    ]


def test_numbers_of_lists_come_before_their_text() -> None:
    document = _read(
        rb"{\listtext\pard\plain 1.\tab}One\par{\listtext\pard\plain 1.1\tab}Below\par"
        rb"{\pntext\f3\'b7\tab}{\*\pn\pnlvlblt}Dot"
    )

    assert document.text == "1.\tOne\n\n1.1\tBelow\n\n•\tDot"


def test_tables_and_tables_in_cells() -> None:
    nested = (
        rb"out \pard\intbl\itap2 in\par ner\nestcell b\nestcell{\*\nesttableprops\trowd\nestrow}"
        rb"{\nonesttables\par}\pard\intbl after"
    )
    row = rb"\trowd\cellx100\cellx200\pard\intbl %s\cell %s\cell\row"
    document = _read(
        b"before\\par"
        + row % (b"name", b"size")
        + row % (rb"two\par lines", b"1")
        + row
        % (
            nested,
            b"2",
        )
        + rb"\pard after\par"
    )

    assert _pieces(document) == [
        ("paragraph", 0, "before"),
        ("table", 0, "name | size\ntwo lines | 1\nout in ner b after | 2"),
        ("paragraph", 0, "after"),
    ]


def test_a_table_of_one_column_is_a_frame() -> None:
    document = _read(rb"\trowd\cellx100\pard\intbl\s1 Framed\par\pard\intbl text\cell\row\pard end")

    assert _pieces(document) == [("heading", 1, "Framed"), ("paragraph", 0, "text"), ("paragraph", 0, "end")]


def test_headers_notes_comments_fields_and_links() -> None:
    document = _read(
        rb"{\info{\title Report}{\author Ada}{\keywords k1}}{\header\pard Head\par}"
        rb"{\headerf Head}{\footer Foot\par}"
        rb"text{\footnote\pard\plain\chftn  noted\par} more{\*\atnid A}{\*\atnauthor Bob}\chatn"
        rb"{\*\annotation{\*\atnref 1}{\*\atndate 9}\pard why?\par}"
        rb' {\field{\*\fldinst{HYPERLINK "http://x.org"}}{\fldrslt{link}}} '
        rb"{\*\bkmkstart b}end{\*\unknown lost}\par"
    )

    assert [text for _kind, _level, text in _pieces(document)] == [
        "Report",
        "Head",
        "text more link end",
        "noted",
        "Comment by Bob: why?",
        "Foot",
    ]


def test_pictures_and_objects_are_skipped_and_told() -> None:
    document = _read(
        rb"a{\*\shppict{\pict\pngblip 89504e47}}{\nonshppict{\pict 0102}}{\pict\bin9 }}{{\\ab}}b"
        rb"{\object\objemb{\*\objclass Word}{\*\objdata 0105}{\result shown}}"
        rb"{\shp{\*\shpinst{\sp{\sn wzDescription}{\sv  described}}{\sp{\sn pib}{\sv no}}{\shptxt boxed\par}}"
        rb"{\shprslt boxed}}"
    )

    assert document.text == "abshown describedboxed"
    assert [(warning.code, warning.count) for warning in document.warnings] == [
        (WarningCode.IMAGES_SKIPPED, 2)
    ]


def test_html_in_rtf_comes_without_its_tags() -> None:
    document = _read(
        rb"\fromhtml1{\*\htmltag64 <p>}\htmlrtf {\plain\f0 \htmlrtf0 Hello "
        rb"\htmlrtf no\htmlrtf0 {\*\htmltag <b>}you"
    )

    assert document.text == "Hello you"


def test_a_document_without_text_is_told() -> None:
    with pytest.raises(NoTextFound):
        _read(rb"{\pict 00}\par")


def test_damaged_and_hostile_documents_end() -> None:
    assert _read(rb"cut {\b text \u").text == "cut text"
    with pytest.raises(NoTextFound):
        _read(rb"{\pict \bin999999999 x")
    with pytest.raises(CorruptFile):
        _read(b"{" * 20_000)
    started = time.process_time()
    _read(b"a" + rb"{\*\x" * 9_000)
    _read(rb"\trowd" + rb"\cell" * 100_000 + b" end")
    _read(rb"{\fonttbl" + rb"{\f1\fcharset0" * 20_000 + b"}" * 20_001 + b"end")
    assert time.process_time() - started < 20


def test_kinds_of_segments_are_those_of_documents() -> None:
    assert {segment.kind for segment in _read(rb"a\par b").segments} == {SegmentKind.PARAGRAPH}
