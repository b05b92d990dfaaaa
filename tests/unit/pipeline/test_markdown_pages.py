from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emberq.pipeline.document import Document
from emberq.pipeline.extract.builder import DocumentBuilder
from emberq.pipeline.markdown_pages import to_markdown
from emberq.store.files.extractions import Extraction, PageText
from tests.harness.sample_files import EVERY_FORMAT, HTML, MARKDOWN, extract_bytes, make_pdf

WORDS = st.text(st.sampled_from("abcé 1|#\n"), min_size=1, max_size=12)


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """Any document that a reader can build: headings, paragraphs and tables, with pages or without."""
    build = DocumentBuilder()
    has_pages = draw(st.booleans())
    page = 1
    for _ in range(draw(st.integers(0, 12))):
        if has_pages:
            page += draw(st.integers(0, 2))
            build.page = page
        match draw(st.sampled_from("hptx")):
            case "h":
                build.heading(draw(WORDS), draw(st.integers(1, 6)))
            case "p":
                build.paragraph(draw(WORDS), tight=draw(st.booleans()))
            case "t":
                build.table(draw(st.lists(st.lists(WORDS, min_size=1, max_size=3), max_size=3)))
            case _:
                build.extend(draw(WORDS), [])
    return build.build("text/html", page_count=page if has_pages else None)


def pages_of(document: Document) -> list[PageText]:
    text, ranges = to_markdown(document)
    return list(Extraction(text, ranges, document.media_type, document.page_count, "").pages())


def words(text: str) -> str:
    """Return what a text says, without blanks and marks of headings."""
    return re.sub(r"[\s#]+", "", text)


@given(documents())
def test_the_pages_together_have_every_word_in_its_order(document: Document) -> None:
    text, ranges = to_markdown(document)
    assert words("".join(text[piece.start : piece.end] for piece in ranges)) == words(document.text)
    assert words(text) == words(document.text)


@given(documents())
def test_ranges_are_in_order_and_between_them_is_only_space(document: Document) -> None:
    text, ranges = to_markdown(document)
    done = 0
    for piece in ranges:
        assert done <= piece.start < piece.end
        assert not text[done : piece.start].strip()
        assert text[piece.start : piece.end].strip()
        done = piece.end
    assert done == len(text)


@given(documents())
def test_page_numbers_ascend_and_each_page_comes_once(document: Document) -> None:
    numbers = [page.page for page in pages_of(document)]
    if document.page_count is None:
        assert set(numbers) <= {None}
    else:
        known = [number for number in numbers if number is not None]
        assert known == numbers
        assert known == sorted(set(known))
        assert all(1 <= number <= document.page_count for number in known)


@given(documents())
def test_every_heading_has_a_line_for_itself_with_its_marks(document: Document) -> None:
    text, _ranges = to_markdown(document)
    lines = text.split("\n")
    for segment in document.segments:
        if segment.level:
            title = document.text[segment.start : segment.end]
            assert any(line in {f"{'#' * segment.level} {title}", title} for line in lines)


def test_markdown_stays_as_it_is() -> None:
    document = extract_bytes(MARKDOWN, "text/markdown")
    pages = pages_of(document)
    assert [page.heading for page in pages] == ["Guide", "Guide › Install", "Setext"]  # noqa: RUF001
    assert "\n\n".join(page.text for page in pages) == MARKDOWN.decode().strip()


def test_a_pdf_has_a_page_each_and_headings_of_other_formats_get_their_marks() -> None:
    first, second = pages_of(extract_bytes(make_pdf(), "application/pdf"))
    assert (first.page, first.heading, second.page) == (1, "Report", 2)
    assert first.text.startswith("# Report\n\nThe first paragraph.")
    one, two = pages_of(extract_bytes(HTML, "text/html"))[-2:]
    assert "# Heading one" in one.text
    assert two.text.startswith("## Heading two\n")
    assert "name | size\na | 1" in two.text


def test_a_page_that_goes_on_is_under_the_heading_of_the_one_before() -> None:
    build = DocumentBuilder()
    build.page = 1
    build.heading("Part", 1)
    build.heading("Chapter", 2)
    build.paragraph("Begins.")
    build.page = 3
    build.paragraph("Goes on.")
    build.heading("Next", 2)
    pages = pages_of(build.build("application/pdf", page_count=3))
    assert [(page.page, page.heading) for page in pages] == [
        (1, "Part › Chapter"),  # noqa: RUF001
        (3, "Part › Chapter"),  # noqa: RUF001
    ]


def test_a_page_number_above_the_first_heading_does_not_hide_it() -> None:
    build = DocumentBuilder()
    build.page = 1
    build.paragraph("1")
    build.heading("Part", 1)
    build.paragraph("Begins.")
    build.heading("Later", 1)
    pages = pages_of(build.build("application/pdf", page_count=1))
    assert [page.heading for page in pages] == ["Part"]


@pytest.mark.parametrize("media_type", EVERY_FORMAT)
def test_every_format_has_pages_or_sections(media_type: str) -> None:
    make, telling = EVERY_FORMAT[media_type]
    document = extract_bytes(make(), media_type)
    pages = pages_of(document)
    assert any(telling in page.text for page in pages)
    assert words("".join(page.text for page in pages)) == words(document.text)
