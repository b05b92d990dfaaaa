"""RTF: headers, the text with headings, lists and tables, then notes, comments and footers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import BinaryIO, Final

from emberq.errors import CorruptFile
from emberq.errors.file_warnings import WarningCode
from emberq.pipeline.extract.builder import DocumentBuilder
from emberq.pipeline.extract.word.flow import Flow
from emberq.pipeline.extract.word.rtf_fonts import Fonts, symbol
from emberq.pipeline.extract.word.rtf_words import (
    CHARACTERS,
    FLAGS,
    FOOTERS,
    HEADERS,
    OPTIONAL,
    SKIPPED,
    SYMBOLS,
)

#: A brace, a control word with its number, a byte in hexadecimal digits, a control symbol, or text.
_TOKEN: Final = re.compile(
    rb"([{}])|\\([A-Za-z]{1,32})(-?\d{1,10})?[ ]?|\\'([0-9A-Fa-f]{2})|\\([\0-\xff])"
    rb"|([^\\{}\r\n\0]+)|[\r\n\0]+"
)
#: What ends the skipping of a group, or must be stepped over: braces, escaped ones, and binary data.
_BORDER: Final = re.compile(rb"[{}]|\\bin(\d{1,10}) ?|\\[\0-\xff]")

#: Most groups inside each other; programs write some dozens.
_MAX_DEPTH: Final = 10_000

_HEADING_NAME: Final = re.compile(r"\s*heading ([1-9])\b", re.IGNORECASE)
_TITLE_NAME: Final = re.compile(r"\s*title\s*;", re.IGNORECASE)

#: An entry of the table of styles: number, and properties with the name behind them.
_STYLE: Final = re.compile(rb"\{(?:\\\*)?\\s(\d{1,5})([^{}]{0,2000})")
_STYLE_LEVEL: Final = re.compile(rb"\\outlinelevel([0-8])\b")
_CONTROL_WORDS: Final = re.compile(r"\\[a-z]+-?\d* ?")

#: The level of an outline that is body text.
_BODY_LEVEL: Final = 9


def read(stream: BinaryIO, build: DocumentBuilder, _progress: Callable[[int, int], None]) -> None:
    """Read an RTF document; it has no page numbers, because pages exist only once a program lays it out.

    Raises:
        CorruptFile: If its groups are nested too deeply.
    """
    write_rtf(stream.read(), build)


def write_rtf(data: bytes, build: DocumentBuilder) -> None:
    """Append the text of an RTF document; errors as for `read`."""
    _Reader(data).read(build)


@dataclass(slots=True)
class _State:
    """What a group inherits from the one around it.

    Attributes:
        flow: Where text goes; nothing if it is left out.
        font: Number of the font.
        skip: How many characters behind a Unicode character stand for it in old programs.
        is_hidden: Whether the text is not shown.
        is_deleted: Whether the text is deleted in a tracked change.
        is_markup: Whether the text only stands for the markup of HTML that the document was made of.
        level: The level of the paragraph as a heading; 0 if it is none.
        depth: How many tables the paragraph is in.
        first: Whether nothing has come in the group yet.
        either: Whether the group has one text in two forms, of which the later one counts.
    """

    flow: Flow | None
    font: int = 0
    skip: int = 1
    is_hidden: bool = False
    is_deleted: bool = False
    is_markup: bool = False
    level: int = 0
    depth: int = 0
    first: bool = True
    either: bool = False


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._body = Flow()
        self._heads: list[Flow] = []
        self._feet: list[Flow] = []
        self._notes: list[Flow] = []
        self._comments: list[tuple[str, Flow]] = []
        self._author = Flow()
        self._title = Flow()
        self._fonts = Fonts()
        self._styles: dict[int, int] = {}
        self._pictures = 0
        self._destinations: dict[bytes, Callable[[], None]] = {
            **dict.fromkeys(HEADERS, self._begin_header),
            **dict.fromkeys(FOOTERS, self._begin_footer),
            b"pict": self._begin_picture,
            b"fonttbl": self._begin_fonts,
            b"stylesheet": self._begin_styles,
            b"footnote": self._begin_note,
            b"annotation": self._begin_comment,
            b"atnauthor": self._begin_author,
            b"title": self._begin_title,
            b"info": self._begin_info,
            b"sp": self._begin_property,
            b"upr": self._begin_either,
        }
        self._state = _State(self._body)
        self._stack: list[_State] = []
        #: Bytes that are not decoded yet, because the next one may belong to the same character.
        self._bytes = bytearray()
        #: Characters still to leave out behind a Unicode character.
        self._left_out = 0

    def read(self, build: DocumentBuilder) -> None:
        """Read all and append it to a document."""
        while self._at < len(self._data):
            token = _TOKEN.match(self._data, self._at)
            if token is None:  # a backslash at the end
                break
            self._at = token.end()
            brace, word, number, code, sign, text = token.groups()
            if text is not None:
                self._text(text)
            elif code is not None:
                self._text(bytes((int(code, 16),)))
            elif word is not None:
                self._word(word, None if number is None else int(number))
            elif brace == b"{":
                self._open()
            elif brace is not None:
                if not self._close():
                    break
            elif sign is not None:
                self._sign(sign)
        self._decode()
        self._write(build)

    def _write(self, build: DocumentBuilder) -> None:
        title = self._title.plain().strip()
        if title and self._body.first_line() != title:
            build.heading(title, 1)
        seen: set[str] = set()
        for flow in self._heads:
            flow.write_new(build, seen)
        self._body.write(build)
        for flow in self._notes:
            flow.write(build)
        for author, flow in self._comments:
            if text := flow.plain().strip():
                build.paragraph(f"Comment by {author}: {text}" if author else f"Comment: {text}")
        for flow in self._feet:
            flow.write_new(build, seen)
        if self._pictures:
            build.warn(WarningCode.IMAGES_SKIPPED, count=self._pictures)

    def _open(self) -> None:
        self._decode()
        self._left_out = 0
        if len(self._stack) >= _MAX_DEPTH:
            raise CorruptFile("The RTF document has groups nested too deeply.")
        parent = self._state
        self._stack.append(parent)
        self._state = replace(parent, first=True, either=False)
        # The form for old programs comes first; the other one is marked as optional.
        if parent.either and not self._data.startswith(b"\\*\\ud", self._at):
            self._state.flow = None

    def _close(self) -> bool:
        """End a group; return whether it was inside another one."""
        self._decode()
        self._left_out = 0
        if not self._stack:
            return False
        self._state = self._stack.pop()
        return bool(self._stack)

    def _skip_group(self) -> None:
        """Go to the end of the present group."""
        depth = 1
        while found := _BORDER.search(self._data, self._at):
            self._at = found.end()
            if found[1]:
                self._at += int(found[1])
            elif found[0] == b"{":
                depth += 1
            elif found[0] == b"}":
                depth -= 1
                if not depth:
                    self._at = found.start()
                    return
        self._at = len(self._data)

    def _text(self, text: bytes) -> None:
        self._state.first = False
        if self._left_out:
            taken = min(self._left_out, len(text))
            self._left_out -= taken
            text = text[taken:]
        if text and self._shown():
            self._bytes += text

    def _shown(self) -> bool:
        state = self._state
        return state.flow is not None and not (state.is_hidden or state.is_deleted or state.is_markup)

    def _decode(self) -> None:
        """Decode the bytes so far and append them."""
        if self._bytes:
            text = self._fonts.decode(bytes(self._bytes), self._state.font)
            self._bytes.clear()
            self._put(text)

    def _put(self, text: str) -> None:
        if self._state.flow is not None and self._shown():
            self._state.flow.add(text)

    def _sign(self, sign: bytes) -> None:
        if sign == b"*":
            self._optional()
            return
        if sign in b"{}\\":
            self._text(sign)
            return
        self._decode()
        self._state.first = False
        if self._left_out:
            self._left_out -= 1
        elif sign in SYMBOLS:
            self._put(SYMBOLS[sign])
        elif sign in b"\r\n":
            self._end_paragraph()

    def _optional(self) -> None:
        """Skip a group that is marked as optional, unless it is known to have text."""
        word = _TOKEN.match(self._data, self._at)
        if word is None or word[2] not in OPTIONAL:
            self._skip_group()

    def _word(self, word: bytes, number: int | None) -> None:
        if word == b"u" and number is not None:
            self._unicode(number)
            return
        self._decode()
        first, self._state.first = self._state.first, False
        left_out, self._left_out = self._left_out, 0
        if left_out and word in CHARACTERS:
            self._left_out = left_out - 1
        elif word == b"bin":
            self._at += max(number or 0, 0)
        elif word in CHARACTERS:
            self._put(CHARACTERS[word])
        elif not (first and self._destination(word)) and not self._layout(word):
            self._format(word, number)

    def _unicode(self, number: int) -> None:
        self._decode()
        self._state.first = False
        code = number & 0xFFFF
        # Symbol fonts have their characters at U+F000.
        self._put(symbol(code - 0xF000, "") if 0xF020 <= code <= 0xF0FF else chr(code))  # noqa: PLR2004
        self._left_out = self._state.skip

    def _destination(self, word: bytes) -> bool:
        """Begin a group whose text goes elsewhere; return whether the word names one."""
        if word in SKIPPED or (word.startswith(b"m") and word.endswith(b"Pr")):
            self._skip_group()
        elif word in self._destinations:
            self._destinations[word]()
        else:
            return False
        return True

    def _begin_picture(self) -> None:
        self._pictures += self._shown()
        self._skip_group()

    def _begin_fonts(self) -> None:
        self._fonts.read_table(self._group())

    def _begin_header(self) -> None:
        self._heads.append(self._new_flow())

    def _begin_footer(self) -> None:
        self._feet.append(self._new_flow())

    def _begin_note(self) -> None:
        self._notes.append(self._new_flow())

    def _begin_comment(self) -> None:
        self._comments.append((self._author.plain().strip(), self._new_flow()))
        self._author = Flow()

    def _begin_author(self) -> None:
        self._state.flow = self._author

    def _begin_title(self) -> None:
        self._state.flow = self._title

    def _begin_info(self) -> None:
        self._state.flow = None

    def _begin_property(self) -> None:
        # The value of a shape's property is text only where it is an alternative text.
        if not self._data.startswith(b"{\\sn wzDescription}", self._at):
            self._skip_group()

    def _begin_either(self) -> None:
        self._state.either = True

    def _group(self) -> bytes:
        """Return the rest of the present group and go to its end."""
        start = self._at
        self._skip_group()
        return self._data[start : self._at]

    def _new_flow(self) -> Flow:
        """Let the present group have a flow of its own."""
        self._state.flow = Flow()
        self._state.level = self._state.depth = 0
        return self._state.flow

    def _layout(self, word: bytes) -> bool:
        """End a paragraph, cell or row; return whether the word does."""
        flow = self._state.flow
        match word:
            case b"par" | b"sect" | b"page" | b"column":
                self._end_paragraph()
            case b"cell" | b"nestcell" if flow is not None:
                flow.end_cell(self._state.level, depth=1 if word == b"cell" else 2)
            case b"row" | b"nestrow" if flow is not None:
                flow.end_row(depth=1 if word == b"row" else 2)
            case _:
                return False
        return True

    def _end_paragraph(self) -> None:
        if self._state.flow is not None:
            self._state.flow.end_paragraph(self._state.level, depth=self._state.depth)

    def _format(self, word: bytes, number: int | None) -> None:
        """Note what changes how the following text is read or where it belongs."""
        state = self._state
        if word in FLAGS:
            setattr(state, FLAGS[word], number != 0)
            return
        match word:
            case b"uc":
                state.skip = max(number if number is not None else 1, 0)
            case b"plain":
                state.is_hidden = state.is_deleted = False
                state.font = self._fonts.default
            case b"pard":
                state.level = state.depth = 0
            case b"intbl":
                state.depth = max(state.depth, 1)
            case b"itap":
                state.depth = number or 0
            case b"outlinelevel":
                state.level = (number or 0) + 1 if 0 <= (number or 0) < _BODY_LEVEL else 0
            case b"s":
                state.level = self._styles.get(number or 0, 0)
            case _:
                state.font = self._fonts.choose(word, number, state.font)

    def _begin_styles(self) -> None:
        """Note which styles are headings, by their names."""
        for entry in _STYLE.finditer(self._group()):
            name = _CONTROL_WORDS.sub("", entry[2].decode("latin-1"))
            if found := _HEADING_NAME.match(name):
                self._styles[int(entry[1])] = int(found[1])
            elif _TITLE_NAME.match(name):
                self._styles[int(entry[1])] = 1
            elif level := _STYLE_LEVEL.search(entry[2]):
                self._styles[int(entry[1])] = int(level[1]) + 1
