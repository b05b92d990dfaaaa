"""Sentences end where a reader sees their end, in any script."""

from __future__ import annotations

import time

import pytest

from emberq.pipeline.sentences import clause_ends, sentence_ends

#: Texts with a bar after each sentence but the last.
TEXTS = (
    "He left. |She stayed! |Why? |\u201cNo.\u201d |(Yes.) |End",
    "Dr. Smith met Mrs. Jones on St. Mary Street. |They spoke, e.g. about J. R. Brown, i.e. him.",
    "See Fig. 3 and No. 5 of the U.S. Army report, pp. 3 to five. |He said no. |Then he left.",
    "Am 3. Mai kam Hr. Maier, vgl. Abs. 2 bzw. Nr. sieben. |Er blieb z. B. bis 1999. |Danach ging er.",
    "\u201cWhat?\u201d he asked. |She said nothing\u2026 |Then: yes.",
    "one thing . |another thing . |a third",
    "一二三。|四五。|「六七！」|八九",  # noqa: RUF001 - full-width
    "यह एक वाक्य है। |यह दूसरा है।",
    "هل هذا صحيح؟ |نعم. |انتهى",
    "Это первое. |Это второе, т.е. ещё одно. |Конец",  # noqa: RUF001 - Russian
)


@pytest.mark.parametrize("text", TEXTS)
def test_sentences_end_after_their_marks(text: str) -> None:
    plain = text.replace("|", "")
    parts = []
    start = 0
    for end in (*sentence_ends(plain, 0, len(plain)), len(plain)):
        if plain[start:end].strip():
            parts.append(plain[start:end].strip())
        start = end

    assert parts == [part.strip() for part in text.split("|")]


def test_blank_lines_and_items_of_lists_end_what_is_before_them() -> None:
    text = "Words\n\nmore words\n- one\n- two\n10. ten\nwrapped line"

    ends = list(sentence_ends(text, 0, len(text)))

    assert [text[end:].partition("\n")[0] for end in ends] == ["more words", "- one", "- two", "10. ten"]


def test_ends_are_between_the_places() -> None:
    text = "One. Two. Three. Four."

    assert list(sentence_ends(text, 4, 9)) == [9]
    assert list(sentence_ends(text, 5, 8)) == []
    assert list(clause_ends("a; b: c", 0, 7)) == [3, 6]


@pytest.mark.parametrize(
    "text", ["." * 300_000, ". " * 150_000, "a." * 150_000, "\n" * 300_000, "1. " * 100_000]
)
def test_hostile_text_is_read_at_once(text: str) -> None:
    started = time.process_time()

    for _ in sentence_ends(text, 0, len(text)):
        pass

    assert time.process_time() - started < 5
