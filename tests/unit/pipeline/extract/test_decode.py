"""Text is read in the encoding that it was written in."""

from __future__ import annotations

import codecs
import os
import re
from pathlib import Path

import pytest

from emberq.pipeline.extract.text.decode import decode
from tests.harness.legacy_texts import LEGACY_TEXTS

#: A directory with the `tests` of chardet's source and the `test` of uchardet's source, as `chardet` and
#: `uchardet`; they are not ours to keep here.
_CORPORA = os.environ.get("EMBERQ_CHARSET_CORPORA", "")
#: What the corpora call an encoding, and the codec that reads it.
_CODECS = {
    "maccyrillic": "mac_cyrillic",
    "macroman": "mac_roman",
    "mac-centraleurope": "mac_latin2",
    "uhc": "cp949",
    "tis-620": "cp874",
    "big5": "big5hkscs",
    "gb2312": "gb18030",
    "shift_jis": "cp932",
    "euc-kr": "cp949",
}


@pytest.mark.parametrize(
    ("encoding", "text"),
    [pytest.param(one.encoding, one.text, id=f"{one.language}-{one.encoding}") for one in LEGACY_TEXTS],
)
def test_three_sentences_are_read_in_their_encoding(encoding: str, text: str) -> None:
    assert decode(text.encode(encoding)) == text


@pytest.mark.parametrize(
    "text",
    [
        "The café is open from 9 to 5.",
        "It\u2019s the owner\u2019s fault.",
        "He said \u201cyes\u201d and left.",
        "The price is 25 €.",
        "See § 5 of the act.",
        "½ cup of sugar",
        "name,city,age\nJosé,Madrid,41\nAnna,Oslo,37\n",
        "Größe",
        "Zoë and Chloë met in Zürich.",
        "Straße 5",
    ],
)
def test_a_few_western_letters_are_windows_1252(text: str) -> None:
    assert decode(text.encode("cp1252")) == text


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1250", "Příliš žluťoučký kůň úpěl ďábelské ódy."),
        ("cp1250", "Jellemző rá az első szótagra eső hangsúly."),
        ("iso8859_15", "La réservation coûte 15 ¤ par nuit à l'hôtel.".replace("¤", "€")),
    ],
)
def test_one_sentence_with_the_letters_of_its_language_is_enough(encoding: str, text: str) -> None:
    assert decode(text.encode(encoding)) == text


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("text", ["Nr\tText\tPreis\r\n1\tÄpfel\t10\r\n", "Просим принести паспорт.\n" * 3])
def test_wide_text_without_a_mark_is_read(encoding: str, text: str) -> None:
    assert decode(text.encode(encoding)) == text


@pytest.mark.parametrize("data", [b"\x1b[31mred\x1b[0m $5", b"\x1b$not japanese"])
def test_escape_sequences_of_terminals_are_kept(data: bytes) -> None:
    assert decode(data) == data.decode()


@pytest.mark.parametrize("data", [b"", b"\xff", b"\x80" * 10, b"\xa4", bytes(range(256)) * 50])
def test_bytes_that_are_no_text_are_decoded_too(data: bytes) -> None:
    assert isinstance(decode(data), str)


def _corpus() -> list[tuple[Path, str]]:
    known = re.compile(r"(iso-8859-\d+|windows-\d+).*")
    samples = [(path, path.parent.name) for path in Path(_CORPORA, "chardet").glob("tests/*/*")]
    samples += [(path, path.stem) for path in Path(_CORPORA, "uchardet").glob("test/*/*")]
    found = []
    for path, label in sorted(samples):
        name = known.sub(r"\1", label.lower())
        name = name if path.suffix not in {".be", ".le"} else name.partition(".")[0]
        try:
            found.append((path, codecs.lookup(_CODECS.get(name, name)).name))
        except LookupError:
            continue
    return found


@pytest.mark.skipif(not _CORPORA, reason="EMBERQ_CHARSET_CORPORA names no directory")
def test_the_samples_of_other_detectors_are_read() -> None:
    wrong = []
    corpus = _corpus()
    for path, encoding in corpus:
        data = path.read_bytes()
        if decode(data) != data.decode(encoding).removeprefix("\ufeff"):
            wrong.append(f"{path.parent.name}/{path.name}")
    assert corpus
    assert len(wrong) <= 0.03 * len(corpus), wrong
