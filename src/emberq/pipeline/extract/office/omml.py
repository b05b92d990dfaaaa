"""Equations of Office files (OMML) as LaTeX."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from emberq.pipeline.extract.office.ooxml import Element, attribute, local_name

#: Most levels of structures inside each other; what is deeper is written without its structure.
_DEEPEST: Final = 50

_OPERATORS: Final = {
    "∑": r"\sum", "∏": r"\prod", "∐": r"\coprod", "∫": r"\int", "∬": r"\iint", "∭": r"\iiint",
    "∮": r"\oint", "\u22c3": r"\bigcup", "⋂": r"\bigcap", "\u22c1": r"\bigvee", "⋀": r"\bigwedge",
}  # fmt: skip
_ACCENTS: Final = {
    "\u0300": r"\grave", "\u0301": r"\acute", "\u0302": r"\hat", "\u0303": r"\tilde", "\u0304": r"\bar",
    "\u0305": r"\overline", "\u0306": r"\breve", "\u0307": r"\dot", "\u0308": r"\ddot", "\u030c": r"\check",
    "\u20d6": r"\overleftarrow", "\u20d7": r"\vec", "^": r"\hat", "~": r"\tilde", "¯": r"\bar", "→": r"\vec",
}  # fmt: skip
_FENCES: Final = {
    "{": r"\{", "}": r"\}", "⟨": r"\langle", "⟩": r"\rangle", "‖": r"\|", "⌊": r"\lfloor", "⌋": r"\rfloor",
    "⌈": r"\lceil", "⌉": r"\rceil", "": ".",
}  # fmt: skip
_BRACES: Final = {"⏞": r"\overbrace", "⏟": r"\underbrace"}
_FUNCTIONS: Final = frozenset(
    (
        *(
            "arccos",
            "arcsin",
            "arctan",
            "arg",
            "cos",
            "cosh",
            "cot",
            "coth",
            "csc",
            "deg",
            "det",
            "dim",
            "exp",
        ),
        *(
            "gcd",
            "hom",
            "inf",
            "ker",
            "lg",
            "lim",
            "liminf",
            "limsup",
            "ln",
            "log",
            "max",
            "min",
            "Pr",
            "sec",
        ),
        *("sin", "sinh", "sup", "tan", "tanh"),
    )
)
#: Ends a row of a matrix.
_ROW_END: Final = r" \\ "
#: Characters with a meaning in LaTeX.
_SPECIAL: Final = re.compile(r"[#$%&_{}]")

#: Elements without text.
_PROPERTIES: Final = re.compile(r"\w+Pr")


def latex(element: Element) -> str:
    """Return an equation as LaTeX, without dollar signs."""
    return re.sub(r"\s+", " ", _content(element, 0)).strip()


def _content(element: Element | None, depth: int) -> str:
    """Return the LaTeX of what is in an element."""
    if element is None:
        return ""
    if depth > _DEEPEST:
        return _escape("".join(element.itertext()))
    pieces: list[str] = []
    for child in element:
        name = local_name(child)
        if name == "t":
            pieces.append(_escape(child.text or ""))
        elif write := _STRUCTURES.get(name):
            pieces.append(write(child, depth + 1))
        elif not _PROPERTIES.fullmatch(name) and name not in {"del", "moveFrom"}:
            pieces.append(_content(child, depth + 1))
    return "".join(pieces)


def _escape(text: str) -> str:
    return _SPECIAL.sub(r"\\\g<0>", text)


def _part(element: Element, name: str, depth: int) -> str:
    """Return the LaTeX of a named part of a structure."""
    return _content(next(element.iterchildren(f"{{*}}{name}"), None), depth).strip()


def _property(element: Element, name: str, default: str = "") -> str:
    """Return a property of a structure; one without a value is on."""
    for properties in element:
        if _PROPERTIES.fullmatch(local_name(properties)):
            for child in properties.iterchildren(f"{{*}}{name}"):
                return attribute(child, "val", "1")
    return default


def _is_on(element: Element, name: str) -> bool:
    return _property(element, name, "0") in {"1", "on", "true"}


def _base(element: Element, depth: int) -> str:
    text = _part(element, "e", depth)
    return text if len(text) == 1 or re.fullmatch(r"\\[A-Za-z]+", text) else f"{{{text}}}"


def _fraction(element: Element, depth: int) -> str:
    above, below = _part(element, "num", depth), _part(element, "den", depth)
    match _property(element, "type"):
        case "lin" | "skw":
            return f"{above}/{below}"
        case "noBar":
            return rf"{{{above} \atop {below}}}"
        case _:
            return rf"\frac{{{above}}}{{{below}}}"


def _scripts(element: Element, depth: int) -> str:
    sub, sup = _part(element, "sub", depth), _part(element, "sup", depth)
    return (f"_{{{sub}}}" if sub else "") + (f"^{{{sup}}}" if sup else "")


def _scripted(element: Element, depth: int) -> str:
    return _base(element, depth) + _scripts(element, depth)


def _prescripted(element: Element, depth: int) -> str:
    return f"{{}}{_scripts(element, depth)}{_base(element, depth)}"


def _radical(element: Element, depth: int) -> str:
    degree = "" if _is_on(element, "degHide") else _part(element, "deg", depth)
    return rf"\sqrt{f'[{degree}]' if degree else ''}{{{_part(element, 'e', depth)}}}"


def _operator(element: Element, depth: int) -> str:
    sign = _property(element, "chr", "∫")
    return f"{_OPERATORS.get(sign, sign)}{_scripts(element, depth)}{{{_part(element, 'e', depth)}}}"


def _delimited(element: Element, depth: int) -> str:
    start, end = _property(element, "begChr", "("), _property(element, "endChr", ")")
    between = _property(element, "sepChr", "|")
    inner = between.join(_content(child, depth).strip() for child in element.iterchildren("{*}e"))
    return rf"\left{_FENCES.get(start, start)} {inner} \right{_FENCES.get(end, end)}"


def _function(element: Element, depth: int) -> str:
    name = _part(element, "fName", depth)
    word = re.match(r"[A-Za-z]*", name)
    if word and word[0] in _FUNCTIONS:
        name = f"\\{name}"
    return f"{name}{{{_part(element, 'e', depth)}}}"


def _accent(element: Element, depth: int) -> str:
    sign = _property(element, "chr", "\u0302")
    text = _part(element, "e", depth)
    return f"{_ACCENTS[sign]}{{{text}}}" if sign in _ACCENTS else f"{text}{sign}"


def _bar(element: Element, depth: int) -> str:
    command = r"\overline" if _property(element, "pos") == "top" else r"\underline"
    return f"{command}{{{_part(element, 'e', depth)}}}"


def _grouped(element: Element, depth: int) -> str:
    default = r"\overbrace" if _property(element, "pos") == "top" else r"\underbrace"
    return f"{_BRACES.get(_property(element, 'chr'), default)}{{{_part(element, 'e', depth)}}}"


def _limit(sign: str) -> Callable[[Element, int], str]:
    def write(element: Element, depth: int) -> str:
        text = _part(element, "e", depth)
        name = f"\\{text}" if text in _FUNCTIONS else text
        return f"{name}{sign}{{{_part(element, 'lim', depth)}}}"

    return write


def _matrix(element: Element, depth: int) -> str:
    rows = (
        " & ".join(_content(cell, depth).strip() for cell in row.iterchildren("{*}e"))
        for row in element.iterchildren("{*}mr")
    )
    return rf"\begin{{matrix}} {_ROW_END.join(rows)} \end{{matrix}}"


def _equations(element: Element, depth: int) -> str:
    rows = (_content(row, depth).strip() for row in element.iterchildren("{*}e"))
    return rf"\begin{{aligned}} {_ROW_END.join(rows)} \end{{aligned}}"


def _boxed(element: Element, depth: int) -> str:
    return rf"\boxed{{{_part(element, 'e', depth)}}}"


_STRUCTURES: Final[dict[str, Callable[[Element, int], str]]] = {
    "f": _fraction,
    **dict.fromkeys(("sSup", "sSub", "sSubSup"), _scripted),
    "sPre": _prescripted,
    "rad": _radical,
    "nary": _operator,
    "d": _delimited,
    "func": _function,
    "acc": _accent,
    "bar": _bar,
    "groupChr": _grouped,
    "limLow": _limit("_"),
    "limUpp": _limit("^"),
    "m": _matrix,
    "eqArr": _equations,
    "borderBox": _boxed,
}
