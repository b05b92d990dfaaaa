"""What splitting promises, over any text, structure and kind of tokenizer."""

from __future__ import annotations

import re
import string
import time
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from emberq.errors import FileTooLarge, InvalidRequest
from emberq.pipeline.document import Chunk, Document, Segment, SegmentKind
from emberq.pipeline.split import HEADING_SEPARATOR, embedding_text, split

HEADING, PARAGRAPH, TABLE = SegmentKind.HEADING, SegmentKind.PARAGRAPH, SegmentKind.TABLE


def make_bert() -> Tokenizer:
    """Make a tokenizer by BERT's rules: short words are one token, others as many as they have letters."""
    words = ["alpha", "beta", "gamma", "delta", "one", "two", "three", *string.punctuation, *string.digits]
    letters = string.ascii_lowercase + "äéßñ"
    vocabulary = ["[UNK]", "[CLS]", "[SEP]", *words, *letters, *(f"##{c}" for c in letters + string.digits)]
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def make_byte_level() -> Tokenizer:
    """Make a tokenizer by GPT-2's rules: a token per byte, two bytes where they spell `th` or ` a`."""
    vocabulary = {char: i for i, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = [("t", "h"), ("Ġ", "a")]
    vocabulary |= {left + right: len(vocabulary) + i for i, (left, right) in enumerate(merges)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


def make_metaspace() -> Tokenizer:
    """Make a tokenizer by SentencePiece's rules: a piece per letter, some pairs, compatibility forms."""
    pieces = [("<unk>", -20.0), ("▁", -2.0), ("▁a", -2.5), ("ab", -3.0)]
    pieces += [(char, -5.0) for char in string.ascii_letters + ".,!?"]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer


BERT = make_bert()
TOKENIZERS = {"bert": BERT, "byte_level": make_byte_level(), "metaspace": make_metaspace()}


def count(tokenizer: Tokenizer, text: str) -> int:
    return len(tokenizer.encode(text, add_special_tokens=False))


def document_of(*parts: tuple[SegmentKind, str, int | None, int], gap: str = "\n\n") -> Document:
    """Make a document of `(kind, text, page, level)` parts."""
    text, segments = "", []
    for kind, part, page, level in parts:
        text += gap if text else ""
        segments.append(Segment(kind, len(text), len(text) + len(part), page, level))
        text += part
    return Document(text, "text/plain", tuple(segments))


def paragraphs(*texts: str) -> Document:
    return document_of(*((PARAGRAPH, text, None, 0) for text in texts))


def path(*headings: str) -> str:
    return HEADING_SEPARATOR.join(headings)


def texts(chunks: list[Chunk]) -> list[str]:
    return [chunk.text for chunk in chunks]


# Text that is hard on tokenizers: words, long unspaced runs, marks, blanks of all kinds, any character.
pieces_of_text = st.one_of(
    st.sampled_from(
        ["alpha beta. ", "Gamma! ", "one\n", "two\n\n", "word" * 30, "a" * 150, "。", "é", "e\u0301"]
    ),
    st.sampled_from(
        ["\u00a0", "\x1c", "\u200b" * 80, " " * 90, "한국어", "日本語。", "ﷺ", "👩‍🔧", "[CLS]", "\x00", "ΑΣ"]
    ),
    st.text(max_size=12),
)
any_text = st.lists(pieces_of_text, max_size=12).map("".join)


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """Draw any structure; segments may be blank, touch, or leave text between them out."""
    text, segments, page = "", [], draw(st.sampled_from([None, 1]))
    for part in draw(st.lists(any_text, max_size=8)):
        text += draw(st.sampled_from(["", "\n", "\n\n", " left out ", "\x1f"]))
        kind = draw(st.sampled_from([HEADING, PARAGRAPH, PARAGRAPH, TABLE]))
        level = draw(st.integers(1, 6)) if kind is HEADING else 0
        page = page + draw(st.sampled_from([0, 0, 1])) if page else page
        segments.append(Segment(kind, len(text), len(text) + len(part), page, level))
        text += part
    return Document(text, "text/plain", tuple(segments))


@settings(max_examples=300, deadline=None)
@given(
    document=documents(),
    kind=st.sampled_from(sorted(TOKENIZERS)),
    size=st.integers(1, 60),
    overlap=st.integers(0, 30),
)
@example(document=paragraphs("a" * 150), kind="bert", size=20, overlap=5)
@example(document=paragraphs("ﷺ" * 3), kind="metaspace", size=4, overlap=2)
@example(document=paragraphs("\u200b" * 80 + " " * 90 + "alpha beta. "), kind="bert", size=1, overlap=0)
@example(
    document=document_of(
        (PARAGRAPH, "word" * 30, None, 0),
        (HEADING, "alpha beta. ", None, 1),
        (PARAGRAPH, "alpha", None, 0),
        gap="\x1f",
    ),
    kind="bert",
    size=16,
    overlap=0,
)
def test_every_split_keeps_its_promises(document: Document, kind: str, size: int, overlap: int) -> None:
    tokenizer = TOKENIZERS[kind]
    chunks = split(document, tokenizer, chunk_size=size, chunk_overlap=overlap)

    covered: set[int] = set()
    for ordinal, chunk in enumerate(chunks):
        assert chunk.ordinal == ordinal
        assert chunk.text == document.text[chunk.start : chunk.end]
        assert chunk.text == chunk.text.strip() != ""
        assert chunk.tokens == count(tokenizer, chunk.text)
        assert chunk.tokens <= size or len(chunk.text) == 1
        touched = [s for s in document.segments if s.start < chunk.end and chunk.start < s.end]
        few = min(10, size // 8)
        if chunk.page != touched[0].page:
            longer = next(s.start for s in touched if s.page == chunk.page)
            assert count(tokenizer, document.text[chunk.start : longer]) < few
        covered.update(range(chunk.start, chunk.end))
    for before, after in pairwise(chunks):
        assert before.start < after.start
        assert before.end < after.end
    for segment in document.segments:
        visible = {i for i in range(segment.start, segment.end) if not document.text[i].isspace()}
        assert visible <= covered


@settings(max_examples=100, deadline=None)
@given(document=documents(), overlap=st.integers(0, 30))
def test_chunks_overlap_by_no_more_than_allowed(document: Document, overlap: int) -> None:
    chunks = split(document, BERT, chunk_size=40, chunk_overlap=overlap)
    for before, after in pairwise(chunks):
        shared = document.text[after.start : before.end]
        # A cut within a word tokenizes its end differently: at worst a token per letter.
        allowance = overlap if re.search(r"\s", shared) or not shared else overlap + len(shared)
        assert not shared or count(BERT, shared) <= allowance + 12
        assert overlap or not shared


@settings(max_examples=100, deadline=None)
@given(document=documents())
def test_no_chunk_reaches_from_one_section_into_the_next(document: Document) -> None:
    visible = [s for s in document.segments if document.text[s.start : s.end].strip()]
    openings = {
        after.start
        for before, after in pairwise(visible)
        if after.kind is HEADING and before.kind is not HEADING
    }
    for chunk in split(document, BERT, chunk_size=50, chunk_overlap=10):
        inside = sorted(opening for opening in openings if chunk.start < opening < chunk.end)
        parts = [document.text[a:b] for a, b in pairwise([chunk.start, *inside, chunk.end])]
        # Of two neighbours one has only a few tokens.
        assert sum(count(BERT, part) >= 6 for part in parts) <= 1


@settings(max_examples=150, deadline=None)
@given(document=documents(), kind=st.sampled_from(sorted(TOKENIZERS)), size=st.integers(1, 100))
def test_no_chunk_of_a_few_tokens_could_join_its_neighbour(document: Document, kind: str, size: int) -> None:
    tokenizer = TOKENIZERS[kind]
    headings = [s for s in document.segments if s.kind is HEADING and document.text[s.start : s.end].strip()]
    for before, after in pairwise(split(document, tokenizer, chunk_size=size, chunk_overlap=0)):
        ends_with_heading = any(
            s.start < after.end and not document.text[s.end : after.end].strip() for s in headings
        )
        between = document.text[before.end : after.start].strip()
        joined = document.text[before.start : after.end]
        if min(before.tokens, after.tokens) < min(10, size // 8) and not between and not ends_with_heading:
            assert count(tokenizer, joined) > size or len(joined) > 64 * size


@settings(max_examples=150, deadline=None)
@given(document=documents(), size=st.integers(30, 100), overlap=st.integers(0, 30))
def test_a_heading_is_not_the_end_of_a_chunk_unless_it_ends_the_section(
    document: Document, size: int, overlap: int
) -> None:
    visible = [s for s in document.segments if document.text[s.start : s.end].strip()]
    chunks = split(document, BERT, chunk_size=size, chunk_overlap=overlap)
    for segment, following in pairwise(visible):
        between = document.text[segment.end : following.start].strip()
        if segment.kind is not HEADING or following.kind is HEADING or between:
            continue
        heading = document.text[segment.start : segment.end].strip()
        if count(BERT, heading) > size // 4 or len(heading) > 100:
            continue
        end = segment.start + len(document.text[segment.start : segment.end].rstrip())
        assert end not in {chunk.end for chunk in chunks}, heading


def test_a_document_without_visible_text_has_no_chunks() -> None:
    assert split(Document("", "text/plain", ()), BERT, chunk_size=10, chunk_overlap=0) == []
    assert split(paragraphs(" \n ", "\t"), BERT, chunk_size=10, chunk_overlap=0) == []


@pytest.mark.parametrize(("size", "overlap"), [(0, 0), (10, -1)])
def test_a_size_that_cannot_be_is_refused(size: int, overlap: int) -> None:
    with pytest.raises(InvalidRequest):
        split(paragraphs("alpha"), BERT, chunk_size=size, chunk_overlap=overlap)


def test_small_paragraphs_share_a_chunk() -> None:
    document = paragraphs("alpha beta", "gamma delta", "one two")
    assert texts(split(document, BERT, chunk_size=10, chunk_overlap=0)) == [document.text]


def test_a_paragraph_that_fits_stays_whole() -> None:
    document = paragraphs("alpha beta gamma", "one two three one two three", "delta")
    assert texts(split(document, BERT, chunk_size=7, chunk_overlap=3)) == [
        "alpha beta gamma",
        "one two three one two three\n\ndelta",
    ]


def test_a_long_paragraph_is_cut_after_sentences() -> None:
    document = paragraphs("Alpha beta. Gamma, e.g. delta. One two three! Alpha one.")
    assert texts(split(document, BERT, chunk_size=10, chunk_overlap=0)) == [
        "Alpha beta.",
        "Gamma, e.g. delta.",
        "One two three! Alpha one.",
    ]


def test_a_sentence_that_fits_is_not_cut_for_a_fuller_chunk() -> None:
    document = paragraphs("Alpha. One " + "one " * 8 + "two. Gamma beta.")
    assert texts(split(document, BERT, chunk_size=12, chunk_overlap=0)) == [
        "Alpha.",
        "One " + "one " * 8 + "two.",
        "Gamma beta.",
    ]


def test_a_sentence_that_does_not_fit_is_cut_after_a_clause() -> None:
    document = paragraphs("alpha beta gamma delta one; two three one two three one two three.")
    assert texts(split(document, BERT, chunk_size=9, chunk_overlap=0))[0] == "alpha beta gamma delta one;"


def test_the_overlap_leaves_room_for_the_whole_sentence() -> None:
    document = paragraphs("Alpha beta. " + "One two three. " + "Gamma " + "one " * 6 + "two.")
    chunks = split(document, BERT, chunk_size=13, chunk_overlap=6)
    assert chunks[-1].text.endswith("Gamma " + "one " * 6 + "two.")


def test_items_of_a_list_in_one_paragraph_stay_whole() -> None:
    items = "\n".join(f"- alpha beta gamma {n}" for n in range(8))
    chunks = split(paragraphs(items), BERT, chunk_size=17, chunk_overlap=0)
    assert [line for chunk in chunks for line in chunk.text.split("\n")] == items.split("\n")


def test_code_is_cut_after_lines() -> None:
    code = "```\n" + "".join(f"alpha(one)  # beta. Gamma {n}\n" for n in range(9)) + "```"
    chunks = split(paragraphs(code), BERT, chunk_size=40, chunk_overlap=0)
    assert len(chunks) > 1
    assert [line for chunk in chunks for line in chunk.text.split("\n")] == code.split("\n")


def test_tables_in_parts_are_filled_with_rows() -> None:
    document = table_of(60)
    chunks = split(document, BERT, chunk_size=60, chunk_overlap=0)
    assert all(chunk.tokens > 60 - 8 - 6 for chunk in chunks[:-1])


def test_the_tail_of_a_page_joins_its_page() -> None:
    document = document_of(
        (PARAGRAPH, "alpha " * 30, 1, 0),
        (HEADING, "beta", 2, 1),
        (PARAGRAPH, "one", 2, 0),
        (HEADING, "two", 3, 1),
    )
    chunks = split(document, BERT, chunk_size=80, chunk_overlap=0)
    assert [(chunk.text.split()[-1], chunk.page) for chunk in chunks] == [("one", 1), ("two", 3)]


def test_sentences_of_a_language_without_blanks_are_found() -> None:
    document = paragraphs("一二三。四五六七。八九。")
    assert texts(split(document, BERT, chunk_size=10, chunk_overlap=0)) == ["一二三。四五六七。", "八九。"]


def test_a_sentence_that_does_not_fit_is_cut_between_words() -> None:
    document = paragraphs("alpha beta gamma delta one two three")
    assert texts(split(document, BERT, chunk_size=3, chunk_overlap=0)) == [
        "alpha beta gamma",
        "delta one two",
        "three",
    ]


def test_text_in_lines_is_cut_after_lines() -> None:
    document = paragraphs("alpha one\nbeta two three\ngamma one")
    assert texts(split(document, BERT, chunk_size=6, chunk_overlap=0)) == [
        "alpha one\nbeta two three",
        "gamma one",
    ]


def test_the_overlap_is_whole_sentences_where_it_can_be() -> None:
    document = paragraphs("Alpha beta gamma delta. One two. Three one two. Alpha alpha alpha.")
    chunks = texts(split(document, BERT, chunk_size=11, chunk_overlap=6))
    assert chunks == ["Alpha beta gamma delta. One two.", "One two. Three one two. Alpha alpha alpha."]


def test_the_overlap_is_whole_words_otherwise() -> None:
    document = paragraphs("alpha beta gamma delta one two three")
    assert texts(split(document, BERT, chunk_size=4, chunk_overlap=2)) == [
        "alpha beta gamma delta",
        "gamma delta one two",
        "one two three",
    ]


def test_a_heading_opens_a_chunk_and_stays_with_its_text() -> None:
    document = document_of(
        (PARAGRAPH, "alpha beta", None, 0),
        (HEADING, "Guide", None, 1),
        (HEADING, "Install", None, 2),
        (PARAGRAPH, "one two three one two three one two three", None, 0),
        (HEADING, "Use", None, 2),
        (PARAGRAPH, "gamma", None, 0),
        (HEADING, "Notes", None, 1),
        (PARAGRAPH, "delta", None, 0),
    )
    chunks = split(document, BERT, chunk_size=18, chunk_overlap=4)
    assert [(chunk.text.split("\n")[0], chunk.heading) for chunk in chunks] == [
        ("alpha beta", None),
        ("Guide", path("Guide", "Install")),
        ("three one two three one two three", path("Guide", "Install")),
        ("Use", path("Guide", "Use")),
        ("Notes", "Notes"),
    ]
    assert chunks[1].text.startswith("Guide\n\nInstall\n\none two")


def test_a_heading_at_the_very_end_is_a_chunk() -> None:
    document = document_of((PARAGRAPH, "alpha", None, 0), (HEADING, "Annex", None, 1))
    assert texts(split(document, BERT, chunk_size=20, chunk_overlap=0)) == ["alpha", "Annex"]


def test_a_page_ends_a_chunk() -> None:
    document = document_of(
        (PARAGRAPH, "alpha beta gamma delta", 1, 0),
        (PARAGRAPH, "one two three", 2, 0),
    )
    chunks = split(document, BERT, chunk_size=12, chunk_overlap=4)
    assert [(chunk.text, chunk.page) for chunk in chunks] == [
        ("alpha beta gamma delta", 1),
        ("one two three", 2),
    ]


def test_a_nearly_empty_page_is_joined_with_the_next() -> None:
    document = document_of((PARAGRAPH, "alpha beta", 1, 0), (PARAGRAPH, "one two three", 2, 0))
    chunks = split(document, BERT, chunk_size=12, chunk_overlap=4)
    assert [(chunk.text, chunk.page) for chunk in chunks] == [(document.text, 1)]


def test_a_table_is_cut_after_rows_only() -> None:
    rows = [f"| alpha | {n} |" for n in range(9)]
    document = document_of((PARAGRAPH, "one two", None, 0), (TABLE, "\n".join(rows), None, 0))
    chunks = split(document, BERT, chunk_size=17, chunk_overlap=5)
    lines = [line for chunk in chunks for line in chunk.text.split("\n") if line.startswith("|")]
    assert set(lines) == set(rows)
    assert chunks[0].text.startswith("one two\n\n| alpha | 0 |\n")
    assert chunks[1].text.split("\n")[0] in chunks[0].text


def test_a_table_that_fits_stays_whole() -> None:
    table = "| alpha | 1 |\n| beta | 2 |"
    document = document_of((PARAGRAPH, "one two three " * 3, None, 0), (TABLE, table, None, 0))
    assert texts(split(document, BERT, chunk_size=12, chunk_overlap=4))[-1] == table


@pytest.mark.parametrize("kind", sorted(TOKENIZERS))
def test_a_huge_line_without_blanks_is_split(kind: str) -> None:
    text = "".join(chr(97 + i * i % 23) for i in range(300_000))
    chunks = split(paragraphs(text), TOKENIZERS[kind], chunk_size=200, chunk_overlap=0)
    assert "".join(texts(chunks)) == text
    assert max(len(chunk.text) for chunk in chunks) <= 200 * 64


def test_characters_no_tokenizer_knows_do_not_swell_a_chunk() -> None:
    document = paragraphs("alpha " + "\u200b" * 50_000 + " beta")
    chunks = split(document, BERT, chunk_size=20, chunk_overlap=0)
    assert max(len(chunk.text) for chunk in chunks) <= 20 * 64
    assert chunks[-1].text.endswith("beta")


def table_of(rows: int, *, title: str = "alpha | beta", row: str = "one | {n}", gap: str = "") -> Document:
    """Make a document of one table, whose segments of ten rows know its header."""
    text, segments = gap, list[Segment]()
    lines = [title, *(row.format(n=n) for n in range(rows))]
    for first in range(0, len(lines), 10):
        text += "\n" if segments else ""
        start = len(text)
        text += "\n".join(lines[first : first + 10])
        segments.append(Segment(TABLE, start, len(text), None, 0, (len(gap), len(gap) + len(title))))
    return Document(text, "text/csv", tuple(segments))


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(0, 60),
    names=st.integers(1, 9),
    kind=st.sampled_from(sorted(TOKENIZERS)),
    size=st.integers(3, 60),
    overlap=st.integers(0, 30),
)
def test_later_rows_carry_the_header_within_the_size(
    rows: int, names: int, kind: str, size: int, overlap: int
) -> None:
    tokenizer = TOKENIZERS[kind]
    title = " | ".join(f"alpha{n}" for n in range(names))
    document = table_of(rows, title=title)
    for chunk in split(document, tokenizer, chunk_size=size, chunk_overlap=overlap):
        assert chunk.text == document.text[chunk.start : chunk.end]
        if chunk.start < len(title):
            assert chunk.header is None
        elif chunk.header:
            assert title.startswith(chunk.header)
            assert count(tokenizer, chunk.header) <= size / 3
            assert count(tokenizer, chunk.header) + chunk.tokens <= size or len(chunk.text) == 1
            assert chunk.header == title or count(tokenizer, title) > size // 3


def test_the_chunks_of_a_table_know_its_columns() -> None:
    document = table_of(25)
    chunks = split(document, BERT, chunk_size=24, chunk_overlap=0)
    assert len(chunks) > 3
    assert [chunk.header for chunk in chunks] == [None] + ["alpha | beta"] * (len(chunks) - 1)
    assert embedding_text(chunks[1], BERT, max_tokens=26) == f"alpha | beta\n{chunks[1].text}"
    assert embedding_text(chunks[1], BERT, max_tokens=chunks[1].tokens + 2) == chunks[1].text


def test_a_long_header_is_cut_to_whole_cells() -> None:
    document = table_of(40, title=" | ".join(f"name {n}" for n in range(200)))
    header = split(document, make_byte_level(), chunk_size=120, chunk_overlap=0)[-1].header
    assert header is not None
    assert document.text.startswith(f"{header} | ")
    assert count(make_byte_level(), header) <= 40


def chunk_under(heading: str | None, text: str) -> Chunk:
    return Chunk(0, text, 0, len(text), count(BERT, text), None, heading)


def test_the_embedded_text_has_the_headings_above_it() -> None:
    assert (
        embedding_text(chunk_under(path("One", "Two"), "alpha"), BERT, max_tokens=20)
        == path("One", "Two") + "\nalpha"
    )
    assert embedding_text(chunk_under(None, "alpha"), BERT, max_tokens=20) == "alpha"


def test_a_heading_inside_the_text_is_not_repeated() -> None:
    assert (
        embedding_text(chunk_under(path("One", "Two"), "Two\n\nalpha"), BERT, max_tokens=20)
        == "One\nTwo\n\nalpha"
    )
    assert embedding_text(chunk_under(path("One", "Two"), "One\n\nTwo"), BERT, max_tokens=20) == "One\n\nTwo"
    assert embedding_text(chunk_under("On", "One two"), BERT, max_tokens=20) == "On\nOne two"


def test_headings_give_way_to_the_text() -> None:
    assert embedding_text(chunk_under("One", "alpha beta"), BERT, max_tokens=2) == "alpha beta"


def test_a_text_with_too_many_chunks_is_refused() -> None:
    document = document_of(
        *((HEADING, f"a {number}", None, 1) for number in range(50)), gap=f"\n{'b ' * 30}\n"
    )
    with pytest.raises(FileTooLarge, match="more than 49 chunks") as caught:
        split(document, make_bert(), chunk_size=200, chunk_overlap=0, max_chunks=49)
    assert "file_budget" in caught.value.hint
    assert len(split(document, make_bert(), chunk_size=200, chunk_overlap=0, max_chunks=50)) == 50


@pytest.mark.parametrize(
    "text", ["。" * 300_000, "." * 300_000, "Dr. " * 50_000, "\n- a" * 50_000, "a: " * 50_000]
)
def test_text_of_marks_is_split_in_proportion_to_its_length(text: str) -> None:
    started = time.process_time()

    split(paragraphs(text), BERT, chunk_size=200, chunk_overlap=30)

    assert time.process_time() - started < 15


def test_splitting_asks_before_each_chunk_whether_there_is_time_left() -> None:
    class NoTimeLeftError(Exception):
        pass

    def check() -> None:
        raise NoTimeLeftError

    with pytest.raises(NoTimeLeftError):
        split(paragraphs("alpha"), make_bert(), chunk_size=200, chunk_overlap=0, check=check)
