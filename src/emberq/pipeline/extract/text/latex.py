"""LaTeX: the words that are printed, with headings, items and tables; formulas are kept as they are."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import BinaryIO, Final

from emberq.pipeline.extract.builder import DocumentBuilder, squeeze
from emberq.pipeline.extract.text.decode import decode
from emberq.pipeline.extract.text.latex_words import (
    ACCENTS,
    BARE,
    DROPPED,
    FLOATS,
    HEADINGS,
    KEYS,
    MATH,
    SIGNS,
    TABLES,
    TITLES,
    VERBATIM,
)

#: One piece of LaTeX: a comment, a command, a formula between dollars, or signs with a meaning.
_TOKEN: Final = re.compile(
    r"(?P<comment>%[^\n]*+\n?[ \t]*+)"
    r"|\\(?P<command>[A-Za-z@]++\*?+)[ \t]*+\n?[ \t]*+"
    r"|\\(?P<sign>[^A-Za-z@])"
    r"|(?P<math>\$\$?+)"
    r"|(?P<mark>[{}&~]|\n[ \t]*+\n\s*+|``|''|---?)"
    r"|(?P<text>[^%\\${}&~`'\n-]++|.|\n)",
    re.DOTALL,
)
#: The name of an environment.
_NAME: Final = re.compile(r"\{([A-Za-z@]{1,40}\*?)\}")
_OPTION: Final = re.compile(r"[ \t\n]*+\[([^\[\]]{0,500}+)\]")
_GROUP: Final = re.compile(r"[ \t\n]*+\{([^{}]{0,2000}+)\}")
_MACRO: Final = re.compile(r"\\(?:re|provide)?newcommand\*?\{?\\([A-Za-z]+)\}?\{([^{}\\#]{1,200}+)\}")
_LABEL: Final = re.compile(r"\\label\{[^{}]*+\}")
_ACCENTED: Final = re.compile(r"[ \t]*+\{?+\\?+([A-Za-z])(?:[ \t]*+\})?+")
_OPENING: Final = re.compile(r"[ \t]*+\{")
_BRACE: Final = re.compile(r"[{}]")
_BEGIN: Final = re.compile(r"^[^%\n]*\\begin\{document\}", re.MULTILINE)

#: Most characters of a formula in a line, and of an argument that is left out.
_LONGEST: Final = 2000
_LONGEST_ARGUMENT: Final = 500

#: Most levels of lists whose items are counted.
_MAX_DEPTH: Final = 50


def read(stream: BinaryIO, build: DocumentBuilder, _progress: Callable[[int, int], None]) -> None:
    """Read a LaTeX file; comments and the settings before the document are left out."""
    _Writer(decode(stream.read()).replace("\r\n", "\n").replace("\r", "\n"), build).write()


class _Writer:
    """Goes through the source once, from piece to piece."""

    def __init__(self, source: str, build: DocumentBuilder) -> None:
        self._source = source
        self._build = build
        self._at = 0
        self._pieces: list[str] = []
        self._size = 0
        self._macros: dict[str, str] = dict(_MACRO.findall(source))
        #: Whether what is read stands before the document.
        self._is_before = _BEGIN.search(source) is not None
        #: For each open brace, what ends with it.
        self._groups: list[Callable[[], None] | None] = []
        self._waiting = 0
        self._next_group: Callable[[], None] | None = None
        self._lists: list[int | None] = []
        self._mark = ""
        self._rows: list[list[str]] | None = None

    def write(self) -> None:
        source = self._source
        while found := _TOKEN.match(source, self._at):
            self._at = found.end()
            kind = found.lastgroup
            text = found[kind or 0]
            if kind == "command":
                self._command(text)
            elif kind == "sign":
                self._sign(text)
            elif kind == "math":
                self._formula(text, text)
            elif kind == "mark":
                self._part(text)
            elif kind == "text":
                self._add(text)
            elif source.startswith("\n", self._at):
                # The comment has taken the first end of two lines that part paragraphs.
                self._part("\n\n")
        self._flush()
        self._end_table()

    def _add(self, text: str) -> None:
        if not self._is_before:
            self._pieces.append(text)
            self._size += len(text)
            # A short macro may stand for a long text.
            self._build.meter.expect_text(self._size)

    def _text(self) -> str:
        text = squeeze("".join(self._pieces))
        self._pieces.clear()
        self._size = 0
        return text

    def _flush(self) -> None:
        text = self._text()
        if self._rows is not None:
            self._rows[-1].append(text)
        elif text:
            self._build.paragraph(self._mark + text, tight=bool(self._mark))
            self._mark = ""

    def _part(self, mark: str) -> None:
        if mark == "{":
            self._groups.append(self._next_group)
            self._waiting += self._next_group is not None
            self._next_group = None
        elif mark == "}":
            if self._groups and (end := self._groups.pop()):
                self._waiting -= 1
                end()
        elif mark == "&":
            if self._rows is None:
                self._add("&")
            else:
                self._flush()
        elif mark == "~":
            self._add(" ")
        elif mark in SIGNS:
            self._add(SIGNS[mark])
        elif self._rows is None and not self._waiting:
            self._flush()
        else:
            self._add(" ")

    def _sign(self, sign: str) -> None:
        if sign in "([":
            self._formula("\\" + sign, "\\)" if sign == "(" else "\\]")
        elif sign == "\\":
            self._skip(_OPTION)
            if self._rows is None:
                self._add("\v")
            else:
                self._flush()
                self._rows.append([])
        elif sign in ACCENTS:
            self._accent(ACCENTS[sign])
        elif sign in "%&$#_{}":
            self._add(sign)
        elif sign not in "-/":
            self._add(" ")

    def _formula(self, opening: str, closing: str) -> None:
        """Append a formula as it is written."""
        end = self._source.find(closing, self._at, self._at + _LONGEST)
        # A dollar alone is a price; a formula has no empty line.
        if end < 0 or "\n\n" in self._source[self._at : end]:
            self._add(opening)
            return
        inner = self._source[self._at : end].strip()
        self._at = end + len(closing)
        self._add(f"${inner}$" if inner else "")

    def _accent(self, mark: str) -> None:
        """Append the next letter with an accent."""
        found = _ACCENTED.match(self._source, self._at)
        if found:
            letter = found[1]
            self._at = found.end()
            self._add(unicodedata.normalize("NFC", letter + mark))

    def _skip(self, pattern: re.Pattern[str]) -> str:
        """Take what a pattern finds next; return its text."""
        found = pattern.match(self._source, self._at)
        if found is None:
            return ""
        self._at = found.end()
        return found[1]

    def _command(self, command: str) -> None:  # noqa: C901, PLR0912 - a branch for each kind of command
        name = command.rstrip("*")
        if name in {"begin", "end"}:
            self._environment(name)
        elif name in TITLES:
            self._title(name)
        elif self._is_before:
            return
        elif name in HEADINGS:
            self._skip(_OPTION)
            self._flush()
            self._end_table()
            level = HEADINGS[name]
            self._next_group = lambda: self._heading(level)
        elif name == "item":
            self._item()
        elif name in KEYS:
            options = [option for _ in range(2) if (option := self._skip(_OPTION))]
            self._add(f"[{', '.join(filter(None, [self._skip(_GROUP), *options]))}]")
        elif name in {"href", "url"}:
            self._link(name)
        elif name in DROPPED:
            self._drop(DROPPED[name])
        elif name in ACCENTS:
            self._accent(ACCENTS[name])
        elif name in {"footnote", "thanks", "marginpar"}:
            self._skip(_OPTION)
            self._add(" (")
            self._next_group = lambda: self._add(")")
        elif name in {"caption", "captionof"}:
            self._skip(_OPTION)
            if self._rows is None:
                self._flush()
        elif name in {"par", "newline", "newpage", "maketitle", "hline", "toprule", "midrule", "bottomrule"}:
            if self._rows is None:
                self._flush()
        else:
            self._skip(_OPTION)
            self._add(self._macros.get(name) or BARE.get(name, ""))

    def _heading(self, level: int) -> None:
        if text := self._text():
            self._build.heading(text, level)

    def _title(self, name: str) -> None:
        """Write the title, author or date, which may stand before the document."""
        was_before, self._is_before = self._is_before, False
        self._skip(_OPTION)
        self._flush()

        def end() -> None:
            text = self._text()
            if name == "title":
                self._build.heading(text, 1)
            else:
                self._build.paragraph(text)
            self._is_before = was_before

        self._next_group = end

    def _item(self) -> None:
        self._flush()
        label = self._skip(_OPTION)
        number = self._lists[-1] if self._lists else None
        if label:
            self._mark = f"{label} "
        elif number is not None:
            self._lists[-1] = number + 1
            self._mark = f"{number + 1}. "
        else:
            self._mark = "- "

    def _link(self, name: str) -> None:
        target = self._skip(_GROUP)
        if name == "url":
            self._add(target)
        else:
            self._next_group = lambda: self._add(f" ({target})")

    def _drop(self, arguments: int) -> None:
        """Leave out the arguments of a command that prints nothing."""
        for _ in range(arguments):
            while self._skip(_OPTION):
                pass
            found = _OPENING.match(self._source, self._at)
            if found is None:
                return
            self._at = _group_end(self._source, found.end())

    def _environment(self, command: str) -> None:  # noqa: C901, PLR0912 - a branch for each kind
        found = _NAME.match(self._source, self._at)
        if found is None:
            return
        self._at = found.end()
        name = found[1].rstrip("*")
        if name == "document":
            self._is_before = False
            self._flush()
        elif self._is_before:
            return
        elif command == "end":
            self._end_environment(name)
        elif name in VERBATIM or name in MATH:
            self._verbatim(found[1], is_formula=name in MATH)
        elif name in TABLES:
            self._flush()
            self._end_table()
            self._skip(_OPTION)
            for _ in range(TABLES[name]):
                self._drop(1)
            self._rows = [[]]
        else:
            if self._rows is None:
                self._flush()
            option = self._skip(_OPTION)
            if name not in FLOATS and option and "=" not in option:
                # The name of a theorem.
                self._add(f"({option}) ")
            if name in {"itemize", "enumerate", "description"} and len(self._lists) < _MAX_DEPTH:
                self._lists.append(0 if name == "enumerate" else None)
            elif name == "abstract":
                self._build.heading("Abstract", 2)
            elif name == "thebibliography":
                self._skip(_GROUP)

    def _end_environment(self, name: str) -> None:
        if self._rows is None:
            self._flush()
        if name in TABLES:
            self._flush()
            self._end_table()
        elif name in {"itemize", "enumerate", "description"} and self._lists:
            self._lists.pop()
            self._mark = ""

    def _end_table(self) -> None:
        rows, self._rows = self._rows, None
        if rows:
            self._build.table(rows)

    def _verbatim(self, name: str, *, is_formula: bool) -> None:
        """Append an environment as it is written."""
        end = self._source.find(f"\\end{{{name}}}", self._at)
        end = len(self._source) if end < 0 else end
        text = self._source[self._at : end]
        self._at = end + len(f"\\end{{{name}}}")
        if name.rstrip("*") == "comment":
            return
        if is_formula:
            self._add(f" ${squeeze(_LABEL.sub('', text))}$ ")
        else:
            self._flush()
            self._build.paragraph(text.strip("\n"))


def _group_end(source: str, at: int) -> int:
    """Return the index after the brace that closes a group; after the line if there is none nearby."""
    depth = 1
    for brace in _BRACE.finditer(source, at, at + _LONGEST_ARGUMENT):
        depth += 1 if brace[0] == "{" else -1
        if not depth:
            return brace.end()
    end = source.find("\n", at)
    return len(source) if end < 0 else end
