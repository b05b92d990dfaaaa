"""Text, Markdown, CSV, JSON and HTML become documents."""

from __future__ import annotations

import time
import unicodedata
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emberq.errors import CorruptFile, FileError, NoTextFound
from emberq.pipeline.document import Document, Segment, SegmentKind
from emberq.pipeline.extract import media
from emberq.pipeline.extract.builder import DocumentBuilder
from emberq.pipeline.extract.detect import detect
from emberq.pipeline.extract.read import extract
from emberq.pipeline.extract.text.decode import decode
from emberq.pipeline.extract.web.markup import write_html
from emberq.pipeline.sandbox import messages
from tests.harness import sample_files as files

WESTERN = "Größe naïve café: der Schlüssel läßt sich über Nacht öffnen.\n" * 5

BLANK = (b" \n\t\n", "\N{ZERO WIDTH SPACE}\n".encode(), b"\xef\xbb\xbf", b"<html></html>")

#: What the readers of text look for.
SHREDS = (
    *("# T\n", "===\n", "---\n", "```\n", "|a|b|\n", "|-|-|\n", "\n", " \n", "word ", "a,b\n", '"', "<p>"),
    *("<table><tr><td>", "<li>", "</", "From: a\n", "\u0301", "\u2028", "\x1c", "\x85", "\r"),
)

#: One piece for a document's builder.
PIECE = st.tuples(st.sampled_from(("heading", "paragraph", "table")), st.text(max_size=30))

TEXT_TYPES = (media.TEXT, media.MARKDOWN, media.CSV, media.JSON_LINES, media.HTML, media.EML)


def read(path: Path, data: bytes, name: str = "file") -> Document:
    source = path / "blob"
    source.write_bytes(data)
    return extract(source, media_type=detect(source, name=name))


def pieces(document: Document, kind: SegmentKind) -> list[str]:
    return [document.text[part.start : part.end] for part in document.segments if part.kind is kind]


def check_invariants(document: Document) -> None:
    """Segments lie in the text, in order, begin and end with ink, and leave out no word."""
    text = document.text
    assert text == unicodedata.normalize("NFC", text)
    assert not set(text) & {"\0", "\r"}
    done = 0
    for part in document.segments:
        assert done <= part.start < part.end <= len(text)
        assert not text[done : part.start].strip()
        piece = text[part.start : part.end]
        assert piece == piece.strip()
        done = part.end
    assert not text[done:].strip()


@pytest.mark.parametrize("media_type", files.EVERY_FORMAT)
def test_every_format_keeps_its_words_and_its_invariants(tmp_path: Path, media_type: str) -> None:
    make, word = files.EVERY_FORMAT[media_type]

    document = read(tmp_path, make())

    assert document.media_type == media_type
    assert word in document.text
    check_invariants(document)
    assert messages.from_bytes(b"".join(messages.to_bytes(document))) == document


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "latin-1"],
)
def test_western_text_is_read_in_its_encoding(tmp_path: Path, encoding: str) -> None:
    document = read(tmp_path, WESTERN.encode(encoding), "a.txt")

    assert document.text.strip() == WESTERN.strip()


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1251", "Каждое утро очередь начинается заново, и никто не знает почему.\n" * 5),
        ("koi8_r", "Каждое утро очередь начинается заново, и никто не знает почему.\n" * 5),
        ("cp932", "毎朝、作業の列は新しく始まります。誰もその理由を知りません。\n" * 5),
        ("gb18030", "每天早上队列重新开始。没有人知道为什么会这样。\n" * 5),
    ],
)
def test_other_scripts_are_read_in_their_encoding(encoding: str, text: str) -> None:
    assert decode(text.encode(encoding)) == text


def test_a_late_letter_in_a_long_ascii_line_is_found_at_once() -> None:
    started = time.process_time()

    text = decode(b"a" * 2_000_000 + b"\nna\xefve caf\xe9 na\xefve caf\xe9\n")

    assert text.endswith("\nnaïve café naïve café\n")
    assert time.process_time() - started < 5


def test_invalid_utf8_loses_only_the_invalid_bytes(tmp_path: Path) -> None:
    data = ("Größe naïve café. " * 10).encode() + b"broken \xff here\n"

    document = read(tmp_path, data, "a.txt")

    assert document.text.count("Größe naïve café.") == 10
    assert "broken \N{REPLACEMENT CHARACTER} here" in document.text


def test_text_is_kept_as_it_stands_with_its_paragraphs(tmp_path: Path) -> None:
    document = read(tmp_path, files.TEXT.replace(b"\n", b"\r\n"), "a.txt")

    assert document.text == files.TEXT.decode()
    assert pieces(document, SegmentKind.PARAGRAPH) == [
        "First paragraph, line one.\nLine two.",
        "Second paragraph: naïve café, 5 €.",
    ]


@pytest.mark.parametrize("data", BLANK)
def test_a_file_without_words_is_no_success(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(NoTextFound):
        read(tmp_path, data)


def test_markdown_keeps_its_text_and_marks_headings_tables_and_code(tmp_path: Path) -> None:
    document = read(tmp_path, files.MARKDOWN)

    assert document.text == files.MARKDOWN.decode()
    headings = [(document.text[s.start : s.end], s.level) for s in document.segments if s.level]
    assert headings == [("# Guide", 1), ("## Install", 2), ("Setext\n======", 1)]
    assert len(pieces(document, SegmentKind.TABLE)) == 1
    assert "```sh\n# not a heading\npip install thing\n```" in pieces(document, SegmentKind.PARAGRAPH)


def test_a_long_line_of_blanks_under_a_row_is_parted_at_once(tmp_path: Path) -> None:
    started = time.process_time()

    read(tmp_path, b"# T\n\na | b\n" + b" " * 200_000 + b"|x\n", "a.md")

    assert time.process_time() - started < 5


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16"])
def test_csv_becomes_rows_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    document = read(tmp_path, files.CSV.decode().encode(encoding), "a.csv")

    assert document.media_type == media.CSV
    (table,) = pieces(document, SegmentKind.TABLE)
    assert table == "name | city | age\nMüller | Köln | 41\nJosé | Cádiz | 37\nÅse | Tromsø | 29"


def test_a_long_csv_becomes_tables_of_fifty_rows(tmp_path: Path) -> None:
    document = read(tmp_path, b"".join(b'%d,"two\nlines",x\n' % row for row in range(120)), "a.csv")

    tables = pieces(document, SegmentKind.TABLE)
    assert [table.count("\n") + 1 for table in tables] == [50, 50, 20]
    assert tables[0].startswith("0 | two lines | x\n1 |")


def headers(document: Document) -> list[str]:
    return [document.text[slice(*part.header)] for part in document.segments if part.header]


def test_each_part_of_a_table_knows_the_names_of_its_columns(tmp_path: Path) -> None:
    rows = "".join(f"{n};M\u00fcller, Hans;{n},50\n" for n in range(120))

    document = read(tmp_path, f"Nr;Name;Betrag\n{rows}".encode(), "a.csv")

    assert headers(document) == ["Nr | Name | Betrag"] * 3
    assert messages.from_bytes(b"".join(messages.to_bytes(document))) == document


def test_a_markdown_table_knows_the_names_of_its_columns(tmp_path: Path) -> None:
    text = "Words.\n\n| name | age |\n|------|-----|\n| Ada | 36 |\n\n## End\n\nWords.\n"

    assert headers(read(tmp_path, text.encode(), "a.md")) == ["| name | age |"]


def test_rows_under_no_names_have_no_header(tmp_path: Path) -> None:
    assert headers(read(tmp_path, b"1;2;3\n4;5;6\n7;8;9\n", "a.csv")) == []


def test_a_header_in_a_file_in_a_file_is_where_it_is() -> None:
    inner, outer = DocumentBuilder(), DocumentBuilder()
    inner.table([["name", "age"], ["Ada", "36"], ["Bob", "41"]])
    outer.paragraph("Before.")

    outer.insert(inner.build(media.CSV))

    assert headers(outer.build(media.EML)) == ["name | age"]


@pytest.mark.parametrize("header", [(0, 0, 9), (5, 3, 1), (0, 99, 1), (0, 3, 0)])
def test_a_header_that_is_out_of_place_is_refused(header: tuple[int, int, int]) -> None:
    start, end, kind = header
    segment = Segment(list(SegmentKind)[0 if kind == 0 else 2], 0, 5, None, int(kind == 0), (start, end))
    data = b"".join(messages.to_bytes(Document("a | b", media.CSV, (segment,))))

    if end == 0:
        assert messages.from_bytes(data).segments[0].header is None
    else:
        with pytest.raises(ValueError, match="header"):
            messages.from_bytes(data)


def test_csv_with_a_quote_never_closed_is_kept_as_text(tmp_path: Path) -> None:
    data = b'a,b\n1,2\n3,"' + b"long,\n" * 40_000

    document = read(tmp_path, data, "a.csv")

    assert document.text.count("long,") == 40_000


def test_json_is_unfolded_into_paths(tmp_path: Path) -> None:
    document = read(tmp_path, files.JSON)

    assert pieces(document, SegmentKind.PARAGRAPH) == [
        "name: Ada\ntags[0]: math\ntags[1]: engines\nborn: 1815",
        "name: Grace\nnote: line one\nline two\nrank.title: Admiral",
    ]


def test_json_lines_keep_a_damaged_line(tmp_path: Path) -> None:
    document = read(tmp_path, b'{"a": "x"}\n{"a": "y"}\n{"a": broken\n')

    assert document.media_type == media.JSON_LINES
    assert pieces(document, SegmentKind.PARAGRAPH) == ["a: x", "a: y", '{"a": broken']


def test_damaged_json_is_corrupt_where_it_was_known_to_be_json(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b'{"a": ')

    with pytest.raises(CorruptFile):
        extract(tmp_path / "blob", media_type=media.JSON)


def test_html_shows_what_a_reader_sees(tmp_path: Path) -> None:
    document = read(tmp_path, files.HTML)

    headings = [(document.text[s.start : s.end], s.level) for s in document.segments if s.level]
    assert headings == [("The title", 1), ("Heading one", 1), ("Heading two", 2)]
    assert "A bold paragraph & more.\nAfter the break." in document.text
    assert pieces(document, SegmentKind.TABLE) == ["name | size\na | 1"]
    assert "kept   as\n  it is" in document.text
    assert "- first item\n- second item" in document.text
    for hidden in ("no text", "color", "unseen"):
        assert hidden not in document.text


@pytest.mark.parametrize("declared", ["iso-8859-1", "windows-1252", "utf-8", "nonsense"])
def test_html_is_read_in_its_declared_encoding_or_its_true_one(declared: str) -> None:
    encoding = "utf-8" if declared == "nonsense" else declared
    html = f'<html><head><meta charset="{declared}"></head><body>Größe</body></html>'
    build = DocumentBuilder()

    write_html(html.encode(encoding), build)

    assert build.build(media.HTML).text == "Größe"


def test_html_nested_beyond_the_parser_is_refused_not_cut(tmp_path: Path) -> None:
    with pytest.raises(CorruptFile, match="nested too deeply"):
        read(tmp_path, b"<html><body>seen" + b"<div>" * 5000 + b"lost in silence")


def test_html_nested_deeply_is_read(tmp_path: Path) -> None:
    assert "deep text" in read(tmp_path, b"<html><body>" + b"<div>" * 1500 + b"deep text").text


@given(st.binary(max_size=3000))
def test_decode_never_fails(data: bytes) -> None:
    text = decode(data)

    assert isinstance(text, str)


@given(st.text())
def test_decode_gives_back_what_was_utf8(text: str) -> None:
    if not text.startswith("\ufeff") and "\0" not in text:
        encoded = text.encode("utf-8", "surrogatepass")
        assert decode(encoded) == text or any(0xD800 <= ord(char) <= 0xDFFF for char in text)


@pytest.mark.parametrize("media_type", TEXT_TYPES)
@given(
    st.one_of(
        st.binary(max_size=1500),
        st.text(max_size=500).map(lambda text: text.encode("utf-8", "replace")),
        st.lists(
            st.sampled_from(SHREDS),
            max_size=40,
        ).map(lambda parts: "".join(parts).encode()),
    )
)
def test_sections_lie_in_order_inside_the_text_of_anything(media_type: str, data: bytes) -> None:
    with TemporaryDirectory() as folder:
        source = Path(folder, "blob")
        source.write_bytes(data)
        try:
            document = extract(source, media_type=media_type)
        except FileError:
            return

    check_invariants(document)
    assert messages.from_bytes(b"".join(messages.to_bytes(document))) == document


@given(st.lists(PIECE, max_size=20))
def test_a_document_built_of_any_pieces_keeps_its_invariants(parts: list[tuple[str, str]]) -> None:
    build = DocumentBuilder()
    for kind, text in parts:
        if kind == "heading":
            build.heading(text, 3)
        elif kind == "table":
            build.table([[text, "x"], [text]])
        else:
            build.paragraph(text)

    check_invariants(build.build(media.TEXT))
