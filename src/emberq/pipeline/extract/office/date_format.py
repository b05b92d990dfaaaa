"""Dates and times in spreadsheets: numbers of days, written with the tokens of a number format."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from typing import Final, NamedTuple, Self

_MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
_DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

#: Excel counts a 29 February 1900 that never was: days before it are one later than they seem.
_FALSE_LEAP_DAY: Final = 60
#: Days between the two systems.
_DAYS_TO_1904: Final = 1462
#: The first number of days beyond the year 9999.
_TOO_LATE: Final = 2_958_466
_DAY_SECONDS: Final = 86_400
#: What of a format is time of day.
_CLOCK: Final = frozenset({"hour", "minute", "second", "half", "elapsed"})
#: Hours of half a clock.
_HALF_DAY: Final = 12


class Token(NamedTuple):
    """One piece of a format code: its kind, and its text as it stands in the code or is to be written."""

    kind: str
    text: str


class Stamp(NamedTuple):
    """A number of days as a moment.

    Attributes:
        moment: The moment, to the second.
        seconds: Seconds since day 0, for elapsed times; negative for a negative number.
        fraction: The digits of the fraction of a second.
    """

    moment: dt.datetime
    seconds: int
    fraction: str

    @classmethod
    def of(cls, serial: float, *, date1904: bool, digits: int) -> Self | None:
        """Return the moment of a number of days; None if it is out of range.

        Args:
            serial: The number of days.
            date1904: Whether they are counted from 1904 instead of 1900.
            digits: Digits of the fraction of a second to which the number is rounded.
        """
        if not abs(serial) < _TOO_LATE:
            return None
        scale = 10 ** min(digits, 3)
        ticks = math.floor(abs(serial) * _DAY_SECONDS * scale + 0.5)
        seconds, left = divmod(ticks, scale)
        days, second = divmod(seconds, _DAY_SECONDS)
        if date1904:
            days += _DAYS_TO_1904
        # Day 0 is 1900-01-00, which a date that has only a time may show.
        start = dt.datetime(1899, 12, 30) if days >= _FALSE_LEAP_DAY else dt.datetime(1899, 12, 31)  # noqa: DTZ001
        try:
            moment = start + dt.timedelta(days=days, seconds=second)
        except OverflowError:
            return None
        fraction = f"{left:0{min(digits, 3)}d}" if digits else ""
        return cls(moment, -seconds if serial < 0 else seconds, fraction)


class DateFormat:
    """A format of moments.

    A format with year, month and day gives `2026-03-15`, and its time after it.
    """

    def __init__(self, tokens: Sequence[Token], *, date1904: bool) -> None:
        """Take the tokens of a format.

        Args:
            tokens: Its tokens.
            date1904: Whether days are counted from 1904 instead of 1900.
        """
        self._tokens = tokens
        self._date1904 = date1904
        self._kinds = _kinds(tokens)
        self._half = "half" in self._kinds
        seconds = [token.text for token in tokens if token.kind == "second"]
        self._digits = max((len(text.partition(".")[2]) for text in seconds), default=0)
        named = [at for at, kind in enumerate(self._kinds) if kind != "literal"]
        times = [at for at in named if self._kinds[at] in _CLOCK]
        #: Where the words before a complete date end, and where its time is.
        self._complete: tuple[int, slice] | None = None
        if {"year", "month", "day"} <= set(self._kinds):
            clock = slice(times[0], times[-1] + 1) if times else slice(0)
            self._complete = (named[0], clock)

    def render(self, serial: float, _negative: bool) -> str:  # noqa: FBT001 - as all renderers
        """Return a number of days in this format; an empty text if it names no moment."""
        stamp = Stamp.of(serial, date1904=self._date1904, digits=self._digits)
        if stamp is None:
            return ""
        if self._complete is None:
            sign = "-" if stamp.seconds < 0 and "elapsed" in self._kinds else ""
            return sign + self._texts(stamp, slice(None))
        start, clock = self._complete
        date = stamp.moment.date().isoformat()
        if start == 0 and clock.stop == 0:
            return date
        prefix = self._texts(stamp, slice(start)).strip()
        return " ".join(filter(None, (prefix, date, self._texts(stamp, clock))))

    def _texts(self, stamp: Stamp, part: slice) -> str:
        pairs = zip(self._tokens[part], self._kinds[part], strict=True)
        return "".join(_text(token, kind, stamp, half=self._half) for token, kind in pairs)


def _kinds(tokens: Sequence[Token]) -> list[str]:
    """Return what each token means; `m` is a minute after hours and before seconds, else a month."""
    kinds: list[str] = []
    last = ""
    for token in tokens:
        kind = _kind(token)
        if kind == "month" and last in {"hour", "elapsed"}:
            kind = "minute"
        if kind == "second" and last == "month":
            at = max(index for index, found in enumerate(kinds) if found == "month")
            kinds[at] = "minute"
        kinds.append(kind)
        if kind not in {"literal", "half"}:
            last = kind
    return kinds


def _kind(token: Token) -> str:
    if token.kind == "date":
        names = {"y": "year", "e": "year", "b": "year", "m": "month", "d": "day", "h": "hour"}
        kind = names.get(token.text[0].lower(), "other")
        # Three letters and more are the name of the day of the week.
        return "weekday" if kind == "day" and len(token.text) > 2 else kind  # noqa: PLR2004 - `dd` is a number
    return token.kind if token.kind in {"second", "half", "elapsed"} else "literal"


def _text(token: Token, kind: str, stamp: Stamp, *, half: bool) -> str:
    width = len(token.text)
    match kind:
        case "literal":
            return token.text
        case "second":
            whole, point, _ = token.text.partition(".")
            return f"{stamp.moment.second:0{len(whole)}d}{point}{stamp.fraction}"
        case "elapsed":
            unit = {"h": 3600, "m": 60, "s": 1}[token.text[0]]
            return f"{abs(stamp.seconds) // unit:0{width}d}"
        case "hour" | "minute" | "half":
            return _clock(token, kind, stamp.moment, half=half)
        case _:
            return _calendar(token, kind, stamp.moment)


def _clock(token: Token, kind: str, moment: dt.datetime, *, half: bool) -> str:
    if kind == "half":
        marks = token.text.split("/")
        return marks[moment.hour >= _HALF_DAY]
    number = moment.minute if kind == "minute" else moment.hour
    if kind == "hour" and half:
        number = (number - 1) % _HALF_DAY + 1
    return f"{number:0{len(token.text)}d}"


def _calendar(token: Token, kind: str, moment: dt.datetime) -> str:
    width = len(token.text)
    month, day = _MONTHS[moment.month - 1], _DAYS[moment.weekday()]
    months = {1: str(moment.month), 2: f"{moment.month:02d}", 3: month[:3], 5: month[0]}
    texts = {
        "year": str(moment.year),
        "month": months.get(width, month),
        "day": f"{moment.day:0{width}d}",
        "weekday": {3: day[:3]}.get(width, day),
    }
    if kind == "year" and token.text in {"y", "yy", "Y", "YY"}:
        return f"{moment.year % 100:02d}"
    return texts.get(kind, "")
