"""Number formats of spreadsheets: turns a cell's number into the text that the program shows.

The codes are those of Excel, which XLSX, XLSB and XLS share. Numbers get the digits, signs and words of their
format. A complete date is written as `2026-03-15`, whatever the order of its format; other dates (`Mar 2026`)
and times get theirs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import ROUND_HALF_UP, Context, Decimal
from fractions import Fraction
from typing import Final, NamedTuple, TypeAlias

from emberq.pipeline.extract.office.date_format import DateFormat, Token

#: Turns a number into text.
Formatter: TypeAlias = Callable[[float], str]

#: Turns a number into text; the second argument says whether its sign is written.
Renderer: TypeAlias = Callable[[float, bool], str]

#: Most characters of a code: Excel's limit. A longer one is not used.
_LONGEST: Final = 255

#: Least number from which on a value without a format is written without an exponent.
_LEAST_PLAIN: Final = 1e-4

_DATE: Final = "yyyy-mm-dd"
#: The codes of the formats that files refer to by number only.
_BUILT_IN: Final = {
    **dict.fromkeys((14, 15, *range(27, 32), 34, 35, 36, *range(50, 59)), _DATE),
    **dict.fromkeys((5, 6, 37, 38, 41, 42), "#,##0;-#,##0"),
    **dict.fromkeys((7, 8, 39, 40, 43, 44), "#,##0.00;-#,##0.00"),
    **dict.fromkeys((20, 32), "h:mm"),
    **dict.fromkeys((21, 33), "h:mm:ss"),
    **dict(enumerate(("0", "0.00", "#,##0", "#,##0.00"), 1)),
    **dict(enumerate(("0%", "0.00%", "0.00E+00", "# ?/?", "# ??/??"), 9)),
    **dict(enumerate(("d-mmm", "mmm-yy", "h:mm AM/PM", "h:mm:ss AM/PM"), 16)),
    **dict(enumerate(("mm:ss", "[h]:mm:ss", "mm:ss.0", "##0.0E+0"), 45)),
    22: f"{_DATE} h:mm",
}

_TOKEN: Final = re.compile(
    r"""(?P<quoted>"[^"]*"?)|\\(?P<escaped>.)|(?P<skipped>[_*].)|\[(?P<bracket>[^\]]*)\]
    |(?P<general>General)|(?P<half>AM/PM|A/P|上午/下午)|(?P<exponent>E[+-])
    |(?P<second>s+(?:\.0+)?)|(?P<date>y+|m+|d+|h+|e+|b+|g+|a{3,4})
    |(?P<digit>[0#?])|(?P<mark>[.,%/@])|(?P<other>.)""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_CONDITION: Final = re.compile(r"(<=|>=|<>|<|>|=)\s*(-?[0-9.]{1,40})")
_ELAPSED: Final = re.compile(r"h+|m+|s+", re.IGNORECASE)
#: Makes a number that is half of the last digit, up to its 15th digit, round up as in Excel.
_ROUND_UP: Final = 1.0000000000000004
#: Below this a float has all digits of the number.
_EXACT_FLOATS: Final = 1e14
#: Enough digits for any number that a file can hold.
_EXACT: Final = Context(prec=400, rounding=ROUND_HALF_UP)


class _Section(NamedTuple):
    """The part of a code for some numbers, e.g. for the negative ones."""

    tokens: tuple[Token, ...]
    condition: Callable[[float], bool] | None


def built_in_format(number: int) -> str:
    """Return the code of a built-in format; `General` for numbers without one."""
    return _BUILT_IN.get(number, "General")


def general(value: float) -> str:
    """Return a number as it is shown without a format: 15 digits, and no exponent unless it is tiny."""
    text = f"{value:.15g}"
    if "e" not in text:
        return text
    if abs(value) >= _LEAST_PLAIN:
        return f"{Decimal(text):f}"
    return re.sub(r"e-0*", "E-0" if abs(value) > 1e-10 else "E-", text)  # noqa: PLR2004 - two digits at least


def make_formatter(code: str, *, date1904: bool = False) -> Formatter:
    """Return a function that writes numbers with a format.

    Args:
        code: The format's code, e.g. `#,##0.00`.
        date1904: Whether days are counted from 1904 instead of 1900.
    """
    if code in {"General", "@", ""} or len(code) > _LONGEST:
        return general
    sections = _parse(code)[:3]
    renders = [_renderer(section.tokens, date1904=date1904) for section in sections]
    if len(sections) == 1 and sections[0].condition is None:
        render = renders[0]
        return lambda value: render(value, value < 0).strip() or general(value)

    def write(value: float) -> str:
        number, negative = _choose(sections, value)
        return renders[number](value, negative).strip() or general(value)

    return write


def _choose(sections: Sequence[_Section], value: float) -> tuple[int, bool]:
    """Return the number of the section for a value, and whether the sign has to be written."""
    if any(section.condition for section in sections):
        for number, section in enumerate(sections):
            if section.condition is None or section.condition(value):
                return number, value < 0
        return len(sections) - 1, value < 0
    if value < 0:
        return (1, False) if len(sections) > 1 else (0, True)
    return (2, False) if value == 0 and len(sections) > 2 else (0, False)  # noqa: PLR2004 - the section for zero


def _parse(code: str) -> list[_Section]:
    sections: list[_Section] = []
    tokens: list[Token] = []
    condition: Callable[[float], bool] | None = None
    for match in _TOKEN.finditer(code):
        kind = match.lastgroup or "other"
        text = match[kind]
        if kind == "other" and text == ";":
            sections.append(_Section(tuple(tokens), condition))
            tokens, condition = [], None
        elif kind == "bracket":
            if found := _CONDITION.fullmatch(text):
                condition = _condition(found[1], found[2]) or condition
            elif _ELAPSED.fullmatch(text):
                tokens.append(Token("elapsed", text.lower()))
            elif text.startswith("$"):
                tokens.append(Token("literal", text[1:].partition("-")[0]))
        elif kind == "quoted":
            tokens.append(Token("literal", text.strip('"')))
        elif kind in {"escaped", "other"}:
            tokens.append(Token("literal", text))
        elif kind == "skipped":
            tokens.append(Token("literal", " " if text[0] == "_" else ""))
        else:
            tokens.append(Token(kind, text))
    sections.append(_Section(tuple(tokens), condition))
    return sections


def _condition(sign: str, number: str) -> Callable[[float], bool] | None:
    try:
        limit = float(number)
    except ValueError:
        return None
    compare: dict[str, Callable[[float], bool]] = {
        "<": lambda value: value < limit,
        "<=": lambda value: value <= limit,
        ">": lambda value: value > limit,
        ">=": lambda value: value >= limit,
        "=": lambda value: value == limit,
        "<>": lambda value: value != limit,
    }
    return compare[sign]


def _renderer(tokens: tuple[Token, ...], *, date1904: bool) -> Renderer:
    """Return the function for the numbers of one section."""
    kinds = {token.kind for token in tokens}
    if kinds & {"date", "second", "elapsed", "half"}:
        dated = [
            Token("literal", token.text) if token.kind in {"digit", "mark"} else token for token in tokens
        ]
        return DateFormat(dated, date1904=date1904).render
    if "digit" not in kinds:
        return lambda value, negative: _without_digits(tokens, value, negative=negative)
    if "exponent" in kinds:
        return lambda value, negative: _scientific(tokens, value, negative=negative)
    if any(token == Token("mark", "/") for token in tokens):
        return lambda value, negative: _fraction(tokens, value, negative=negative)
    return _Number.of(tokens).quick_renderer()


def _without_digits(tokens: Sequence[Token], value: float, *, negative: bool) -> str:
    is_text = any(token.kind == "mark" and token.text == "@" for token in tokens)
    plain = general(value if negative or is_text else abs(value))
    return "".join(
        token.text
        if token.kind == "literal" or (token.kind == "mark" and token.text != "@")
        else plain
        if token.kind in {"general", "mark"}
        else ""
        for token in tokens
    )


class _Number(NamedTuple):
    """A format of digits.

    Attributes:
        prefix: Text before the first digit.
        whole: The places before the point, with the texts between them.
        least: Decimals that are written also if they are zero.
        most: Decimals that are written.
        suffix: Text after the last digit.
        grouped: Whether thousands are separated.
        scale: Power of ten that the number is multiplied with.
    """

    prefix: str
    whole: tuple[Token, ...]
    least: int
    most: int
    suffix: str
    grouped: bool
    scale: int

    @classmethod
    def of(cls, tokens: Sequence[Token]) -> _Number:
        """Return the format of a section."""
        places = [at for at, token in enumerate(tokens) if token.kind == "digit"]
        point = next((at for at, token in enumerate(tokens) if token == Token("mark", ".")), None)
        first, last = places[0], places[-1]
        if point is not None:
            first, last = min(first, point), max(last, point)
        end = last + 1
        while end < len(tokens) and tokens[end] == Token("mark", ","):
            end += 1
        body = tokens[first:end]
        split = len(body) if point is None else point - first
        whole, decimals = body[:split], body[split:]
        scale = 2 * sum(token == Token("mark", "%") for token in tokens)
        grouped = False
        kept = list(whole)
        while kept and kept[-1] == Token("mark", ","):
            kept.pop()
            scale -= 3
        if point is not None:
            scale -= 3 * sum(token == Token("mark", ",") for token in decimals)
        if any(token == Token("mark", ",") for token in kept):
            grouped = True
            kept = [token for token in kept if token != Token("mark", ",")]
        digits = [token.text for token in decimals if token.kind == "digit"]
        least = max((at for at, digit in enumerate(digits, 1) if digit == "0"), default=0)
        prefix = "".join(token.text for token in tokens[:first])
        suffix = "".join(token.text for token in tokens[end:])
        return cls(prefix, tuple(kept), least, len(digits), suffix, grouped, scale)

    def quick_renderer(self) -> Renderer:
        """Return a function that renders numbers, in the plain way where the format allows it."""
        ones = "".join(token.text for token in self.whole)
        if self.least != self.most or not re.fullmatch("[#?]*0", ones):
            return self.render
        factor = 10.0**self.scale * _ROUND_UP
        spec = f"{',' if self.grouped else ''}.{self.most}f"
        prefix, suffix = self.prefix, self.suffix

        def render(value: float, negative: bool) -> str:  # noqa: FBT001 - as all renderers
            amount = abs(value) * factor
            if amount >= _EXACT_FLOATS:
                return self.render(value, negative)
            return f"{'-' if negative else ''}{prefix}{amount:{spec}}{suffix}"

        return render

    def render(self, value: float, negative: bool) -> str:  # noqa: FBT001 - as all renderers
        """Return a number in this format; `negative` says whether its sign is written."""
        amount = Decimal(f"{abs(value):.15g}").scaleb(self.scale, _EXACT)
        rounded = amount.quantize(Decimal(1).scaleb(-self.most), context=_EXACT)
        whole, _, decimals = f"{rounded:f}".partition(".")
        while len(decimals) > self.least and decimals.endswith("0"):
            decimals = decimals[:-1]
        sign = "-" if negative else ""
        text = self._fill(whole.lstrip("0"))
        return f"{sign}{self.prefix}{text}{'.' if decimals else ''}{decimals}{self.suffix}"

    def _fill(self, digits: str) -> str:
        """Return the digits before the point, in the places of the format."""
        if all(token.kind == "digit" for token in self.whole):
            digits = digits.zfill(sum(token.text == "0" for token in self.whole)) if self.whole else digits
            return f"{int(digits):,}" if self.grouped and digits and digits[0] != "0" else digits
        pieces: list[str] = []
        left = len(digits)
        places = sum(token.kind == "digit" for token in self.whole)
        for token in reversed(self.whole):
            if token.kind != "digit":
                pieces.append(token.text)
                continue
            places -= 1
            # The first place takes all digits that are left.
            start = 0 if places == 0 else max(left - 1, 0)
            pieces.append(digits[start:left] or ("0" if token.text == "0" else ""))
            left = start
        return "".join(reversed(pieces))


def _scientific(tokens: Sequence[Token], value: float, *, negative: bool) -> str:
    at = next(index for index, token in enumerate(tokens) if token.kind == "exponent")
    point = next((index for index, token in enumerate(tokens[:at]) if token == Token("mark", ".")), at)
    decimals = sum(token.kind == "digit" for token in tokens[point:at])
    step = max(sum(token.kind == "digit" for token in tokens[:point]), 1)
    width = sum(token.kind == "digit" for token in tokens[at:])
    mantissa, _, power = f"{abs(value):.15e}".partition("e")
    shift = int(power) % step
    digits = Decimal(mantissa).scaleb(shift).quantize(Decimal(1).scaleb(-decimals), context=_EXACT)
    exponent = int(power) - shift
    if digits >= 10**step:
        digits, exponent = (
            digits.scaleb(-step).quantize(Decimal(1).scaleb(-decimals), context=_EXACT),
            exponent + step,
        )
    sign = "-" if exponent < 0 else "+" if tokens[at].text.endswith("+") else ""
    return f"{'-' if negative else ''}{digits:f}E{sign}{abs(exponent):0{max(width, 1)}d}"


def _fraction(tokens: Sequence[Token], value: float, *, negative: bool) -> str:
    at = next(index for index, token in enumerate(tokens) if token == Token("mark", "/"))
    below = "".join(token.text for token in tokens[at + 1 :]).strip()
    amount = Fraction(f"{abs(value):.15g}")
    # `# ?/?` has a whole number before the fraction: digits, a gap, digits.
    has_whole = re.search(r"[0#?][^0#?]+[0#?]+\s*$", "".join(token.text for token in tokens[:at])) is not None
    whole = int(amount) if has_whole else 0
    rest = amount - whole
    if found := re.match(r"[1-9]\d{0,5}", below):
        under = int(found[0])
        over = round(rest * under)
    else:
        places = min(sum(character in "0#?" for character in below), 6)
        part = rest.limit_denominator(10 ** max(places, 1) - 1)
        over, under = part.numerator, part.denominator
    if has_whole and over >= under:
        whole, over = whole + 1, 0
    pieces = [str(whole)] if whole or (has_whole and not over) else []
    if over or not has_whole:
        pieces.append(f"{over}/{under}")
    return ("-" if negative else "") + " ".join(pieces)
