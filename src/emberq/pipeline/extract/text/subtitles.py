"""Subtitles (WebVTT, SubRip): what is said as paragraphs, each with the time at which it begins."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final, NamedTuple

from emberq.pipeline.extract.builder import DocumentBuilder, squeeze
from emberq.pipeline.extract.text.decode import decode

_TIMES: Final = re.compile(
    r"\s*+(?:(\d{1,6}):)?(\d\d?):(\d\d)[,.]\d{1,3}[ \t]*+-->[ \t]*+(?:(\d{1,6}):)?(\d\d?):(\d\d)[,.]\d{1,3}"
)
_SPEAKER: Final = re.compile(r"<v(?:\.[^\s<>]*+)?+\s++([^<>]*+)>")
#: Tags of both formats, the times of single words, and positions such as `{\an8}`.
_TAG: Final = re.compile(r"</?[A-Za-z0-9][^<>\n]*+>|\{\\[^{}\n]*+\}")
_BLANK_LINES: Final = re.compile(r"\n[ \t]*+\n")
_SENTENCE_END: Final = re.compile(r"[.!?\u2026\u3002\uff01\uff1f][\"'\u201d\u2019)\]]*$")

#: What begins a part of WebVTT that is not shown.
_NO_CUES: Final = ("WEBVTT", "NOTE", "STYLE", "REGION", "\ufeffWEBVTT")

#: Characters from which on a paragraph ends with a sentence, and at which it ends anyway.
_ENOUGH: Final = 300
_MOST: Final = 1200
#: Seconds of silence that end a paragraph.
_PAUSE: Final = 5


class _Cue(NamedTuple):
    """What is shown at one time; the times are seconds from the beginning."""

    start: int
    end: int
    speaker: str
    lines: list[str]


def read(stream: BinaryIO, build: DocumentBuilder, _progress: Callable[[int, int], None]) -> None:
    """Read subtitles without their numbers, tags, notes and styles.

    A paragraph ends with a sentence once it is long enough, at a pause, and where another person speaks.
    """
    text = decode(stream.read()).replace("\r\n", "\n").replace("\r", "\n")
    words: list[str] = []
    size = 0
    last: _Cue | None = None
    begin = 0
    for cue in _cues(text):
        if last is not None and words:
            is_over = size >= _MOST or (size >= _ENOUGH and _SENTENCE_END.search(words[-1]))
            if is_over or cue.start - last.end >= _PAUSE or cue.speaker not in {"", last.speaker}:
                _write(begin, words, build)
                words, size = [], 0
        if not words:
            begin = cue.start
        if cue.speaker and (last is None or cue.speaker != last.speaker):
            words.append(f"{cue.speaker}:")
        # Captions that roll up show a line again.
        shown = set() if last is None else set(last.lines)
        new = [line for line in cue.lines if line not in shown]
        words += new
        size += sum(map(len, new))
        last = cue._replace(speaker=cue.speaker or (last.speaker if last else ""))
    _write(begin, words, build)


def _write(begin: int, words: list[str], build: DocumentBuilder) -> None:
    if words:
        minutes, seconds = divmod(begin, 60)
        hours, minutes = divmod(minutes, 60)
        build.paragraph(f"[{hours:02}:{minutes:02}:{seconds:02}] {' '.join(words)}")


def _cues(text: str) -> Iterator[_Cue]:
    start = end = 0
    for block in _BLANK_LINES.split(text):
        lines = block.strip("\n").split("\n")
        # A number or a name may stand before the times.
        for number, line in enumerate(lines[:2]):
            if times := _TIMES.match(line):
                start, end = _seconds(*times.group(1, 2, 3)), _seconds(*times.group(4, 5, 6))
                yield _cue(start, end, "\n".join(lines[number + 1 :]))
                break
        else:
            # What an empty line parts from its cue is shown with it.
            if not lines[0].startswith(_NO_CUES):
                yield _cue(start, end, block)


def _cue(start: int, end: int, content: str) -> _Cue:
    speaker = _SPEAKER.match(content)
    if speaker:
        content = content[speaker.end() :]
    content = _SPEAKER.sub(r"\1: ", content)
    shown = (squeeze(html.unescape(_TAG.sub("", line))) for line in content.split("\n"))
    name = squeeze(html.unescape(speaker[1])) if speaker else ""
    return _Cue(start, end, name, [line for line in shown if line])


def _seconds(hours: str | None, minutes: str, seconds: str) -> int:
    return int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds)
