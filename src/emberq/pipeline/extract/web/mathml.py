"""MathML as LaTeX: its annotation if it has one, otherwise its fractions, roots, indices and matrices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from emberq.pipeline.extract.builder import squeeze
from emberq.pipeline.extract.office.ooxml import Element, local_name

#: Most levels of a formula; of what is deeper, the plain text is kept.
_MAX_DEPTH: Final = 50

#: Most characters of a formula.
_LONGEST: Final = 10_000

#: Signs after which, and before which, there is no space; a text has none before its beginning.
_OPENING: Final = frozenset(("", "(", "[", "{", "|"))
_CLOSING: Final = frozenset((")", "]", "}", "|", ",", ";", "!", "'"))

#: Operators whose limits are written as indices.
_LARGE: Final = frozenset("\u2211\u220f\u2210\u222b\u222c\u222e\u22c3\u22c2") | {
    "lim",
    "max",
    "min",
    "sup",
    "inf",
}

_ACCENTS: Final = {
    "^": "hat",
    "\u02c6": "hat",
    "~": "tilde",
    "\u02dc": "tilde",
    "\xaf": "bar",
    "\u203e": "overline",
    "\u2192": "vec",
    "\u20d7": "vec",
    "\u02d9": "dot",
    "\xa8": "ddot",
    "\u23de": "overbrace",
}
_INVISIBLE: Final = str.maketrans("", "", "\u2061\u2062\u2063\u2064")


def latex(math: Element) -> str:
    """Return a formula on one line, without dollar signs; an empty text if it has no words."""
    for element in math.iter("{*}annotation", "annotation"):
        if "tex" in element.get("encoding", "").lower():
            return _short(element)
    return squeeze(_write(math, 0))[:_LONGEST] or squeeze(math.get("alttext", ""))[:_LONGEST]


def _short(element: Element) -> str:
    pieces: list[str] = []
    length = 0
    for piece in element.itertext():
        pieces.append(piece)
        length += len(piece)
        if length > _LONGEST:
            break
    return squeeze("".join(pieces).translate(_INVISIBLE))[:_LONGEST]


def _write(element: Element, depth: int) -> str:
    if depth > _MAX_DEPTH:
        return _short(element)
    name = local_name(element).lower()
    if name in {"annotation", "annotation-xml", "mphantom", "none", "mprescripts"}:
        return ""
    if not len(element):
        return squeeze((element.text or "").translate(_INVISIBLE))
    parts = [_write(child, depth + 1) for child in element if isinstance(child.tag, str)]
    count, write = _WRITERS.get(name, (0, _joined))
    if name == "mfenced":
        return f"{element.get('open', '(')}{', '.join(parts)}{element.get('close', ')')}"
    # What stands between the elements of a formula is white space, but for the words of a broken one.
    text = squeeze(element.text or "")
    return write(parts) if len(parts) >= count and not text else _joined([text, *parts])


def _joined(parts: list[str]) -> str:
    """Return the parts of a row: letters, digits and brackets close together, spaces around all else."""
    text = ""
    for part in filter(None, parts):
        is_close = text[-1:].isalnum() and len(part) == 1 and (part.isalnum() or part == "(")
        gap = not is_close and text[-1:] not in _OPENING and part not in _CLOSING
        text += f" {part}" if gap else part
    return text


def _under(parts: list[str]) -> str:
    base, limit = parts[:2]
    return f"{base}_{{{limit}}}" if base in _LARGE else rf"\underset{{{limit}}}{{{base}}}"


def _over(parts: list[str]) -> str:
    base, limit = parts[:2]
    if accent := _ACCENTS.get(limit):
        return rf"\{accent}{{{base}}}"
    return f"{base}^{{{limit}}}" if base in _LARGE else rf"\overset{{{limit}}}{{{base}}}"


#: For the elements with a fixed number of children: how many, and what is written.
_WRITERS: Final[dict[str, tuple[int, Callable[[list[str]], str]]]] = {
    "mfrac": (2, lambda parts: rf"\frac{{{parts[0]}}}{{{parts[1]}}}"),
    "msqrt": (1, lambda parts: rf"\sqrt{{{_joined(parts)}}}"),
    "mroot": (2, lambda parts: rf"\sqrt[{parts[1]}]{{{parts[0]}}}"),
    "msup": (2, lambda parts: f"{parts[0]}^{{{parts[1]}}}"),
    "msub": (2, lambda parts: f"{parts[0]}_{{{parts[1]}}}"),
    "msubsup": (3, lambda parts: f"{parts[0]}_{{{parts[1]}}}^{{{parts[2]}}}"),
    "munderover": (3, lambda parts: f"{parts[0]}_{{{parts[1]}}}^{{{parts[2]}}}"),
    "munder": (2, _under),
    "mover": (2, _over),
    "mtr": (0, " & ".join),
    "mtable": (0, lambda rows: "\\begin{matrix} " + " \\\\ ".join(rows) + " \\end{matrix}"),
}
