"""Of generated files of the formats with readers of our own, at least 98 of 100 words come out, in order."""

from __future__ import annotations

import gzip
import io
import random
import struct
from collections.abc import Callable
from difflib import SequenceMatcher

import pytest

from emberq.pipeline.extract.detect import detect_stream
from emberq.pipeline.extract.read import extract_stream
from tests.harness import sample_files as files
from tests.harness.open_document import make_odp, make_odt
from tests.harness.powerpoint_binary import Slide, make_ppt
from tests.harness.word_binary import Mark, make_doc

_LETTERS = "abcdefghijklmnopqrstuvwxyzäöüßéèçñåøžčřőűąęłβδжзийкл漢字東京"
_IN_CELL = struct.pack("<HB", 0x2416, 1)
_ENDS_ROW = _IN_CELL + struct.pack("<HB", 0x2417, 1)

#: Lines of words: each fifth one is a title, each fifth one a row of two cells, the others are paragraphs.
_LINES = [
    ["".join(chance.choices(_LETTERS, k=chance.randrange(2, 12))) for _ in range(chance.randrange(2, 20))]
    for chance in [random.Random(16)]
    for _ in range(120)
]


def _blocks(
    title: Callable[[str], str], row: Callable[[str, str], str], paragraph: Callable[[str], str]
) -> list[str]:
    blocks = []
    for number, words in enumerate(_LINES):
        if number % 5 == 0:
            blocks.append(title(" ".join(words)))
        elif number % 5 == 1:
            blocks.append(row(words[0], " ".join(words[1:])))
        else:
            blocks.append(paragraph(" ".join(words)))
    return blocks


def _escaped(text: str) -> str:
    return "".join(char if char.isascii() else f"\\u{ord(char)}?" for char in text)


def _rtf() -> bytes:
    blocks = _blocks(
        lambda text: rf"{{\pard\s1 {_escaped(text)}\par}}",
        lambda one, two: rf"\trowd\pard\intbl {_escaped(one)}\cell {_escaped(two)}\cell\row",
        lambda text: rf"\pard {_escaped(text)}\par",
    )
    return (r"{\rtf1\ansi{\stylesheet{\s1 heading 1;}}" + "\n".join(blocks) + "}").encode()


def _odt() -> bytes:
    cell = "<table:table-cell><text:p>{}</text:p></table:table-cell>"
    return make_odt(
        "".join(
            _blocks(
                "<text:h>{}</text:h>".format,
                lambda one, two: (
                    "<table:table><table:table-row>"
                    f"{cell.format(one)}{cell.format(two)}</table:table-row></table:table>"
                ),
                "<text:p>{}</text:p>".format,
            )
        )
    )


def _odp() -> bytes:
    box = "<draw:frame><draw:text-box><text:p>{}</text:p></draw:text-box></draw:frame>"
    return make_odp(
        "".join(
            f"<draw:page>{block}</draw:page>"
            for block in _blocks(box.format, lambda one, two: box.format(f"{one} {two}"), box.format)
        )
    )


def _doc() -> bytes:
    marks: list[Mark] = []
    for number, words in enumerate(_LINES):
        if number % 5 == 1:
            marks += (Mark(f"{words[0]}\x07", 0, _IN_CELL), Mark(f"{' '.join(words[1:])}\x07", 0, _IN_CELL))
            marks.append(Mark("\x07", 0, _ENDS_ROW))
        else:
            marks.append(Mark(" ".join(words) + "\r", 0 if number % 5 else 1))
    return make_doc(marks)


def _ppt() -> bytes:
    return make_ppt(*[Slide([(0, words[0])], [(4, " ".join(words[1:]))]) for words in _LINES])


def _members() -> dict[str, bytes]:
    return {f"{number:03}.txt": " ".join(words).encode() for number, words in enumerate(_LINES)}


MAKERS: dict[str, Callable[[], bytes]] = {
    "rtf": _rtf,
    "odt": _odt,
    "odp": _odp,
    "doc": _doc,
    "ppt": _ppt,
    "zip": lambda: files.make_zip(**_members()),
    "tar.gz": lambda: gzip.compress(files.make_tar(_members())),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_nearly_all_words_come_out_in_order(kind: str) -> None:
    stream = io.BytesIO(MAKERS[kind]())
    text = extract_stream(stream, media_type=detect_stream(stream)).text
    expected = [word for words in _LINES for word in words]

    matcher = SequenceMatcher(None, expected, text.split(), autojunk=False)

    assert sum(block.size for block in matcher.get_matching_blocks()) >= 0.98 * len(expected)
