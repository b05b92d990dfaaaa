"""Calendars and invitations (iCalendar, RFC 5545): what, when, where and with whom, in words."""

from __future__ import annotations

import contextlib
import datetime as dt
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from emberq.pipeline.extract.builder import DocumentBuilder, squeeze
from emberq.pipeline.extract.text.decode import decode

#: The first line of a calendar.
BEGIN: Final = "BEGIN:VCALENDAR"

_FOLD: Final = re.compile(r"\r?\n[ \t]")
#: A line: the name, the parameters, whose values may be quoted, and the value.
_LINE: Final = re.compile(
    r'([A-Za-z0-9-]{1,80})((?:;[A-Za-z0-9-]{1,80}=(?:[^";:,]|"[^"]*+"|,)*+)*+):(.*)', re.DOTALL
)
_PARAMETER: Final = re.compile(r';([A-Za-z0-9-]+)=((?:[^";:,]|"[^"]*+"|,)*+)')
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_MOMENT: Final = re.compile(r"(\d{4})(\d\d)(\d\d)(?:T(\d\d)(\d\d)\d{0,2}(Z?))?$")
_DURATION: Final = re.compile(r"P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:\d+S)?)?$")

#: What is shown; alarms and time zones are not.
_SHOWN: Final = frozenset(("VEVENT", "VTODO", "VJOURNAL"))

_METHODS: Final = {
    "REQUEST": "Invitation",
    "CANCEL": "Cancelled",
    "REPLY": "Reply",
    "COUNTER": "Counter-proposal",
}
_ANSWERS: Final = {
    "ACCEPTED": "accepted",
    "DECLINED": "declined",
    "TENTATIVE": "tentative",
    "DELEGATED": "delegated",
}
_ROLES: Final = {"OPT-PARTICIPANT": "optional", "CHAIR": "chair"}
_RULES: Final[dict[str, Callable[[str], str]]] = {
    "FREQ": lambda value: value.lower(),
    "INTERVAL": lambda value: f"every {value}",
    "BYDAY": lambda value: f"on {value.replace(',', ', ')}",
    "BYMONTHDAY": lambda value: f"on day {value.replace(',', ', ')}",
    "BYMONTH": lambda value: f"in month {value.replace(',', ', ')}",
    "COUNT": lambda value: f"{value} times",
    "UNTIL": lambda value: f"until {_moment(value, {})}",
}


@dataclass(slots=True)
class _Entry:
    """An event, task or journal: for each name its values, with their parameters."""

    fields: dict[str, list[tuple[str, dict[str, str]]]] = field(default_factory=dict)

    def first(self, name: str) -> tuple[str, dict[str, str]]:
        return self.fields.get(name, [("", {})])[0]

    def text(self, name: str) -> str:
        value = self.first(name)[0]
        return _ESCAPE.sub(lambda found: "\n" if found[1] in "nN" else found[1], value).strip()


def read(stream: BinaryIO, build: DocumentBuilder, _progress: Callable[[int, int], None]) -> None:
    """Read a calendar: each event has its summary as a heading."""
    write_calendar(decode(stream.read()), build)


def write_calendar(text: str, build: DocumentBuilder, *, level: int = 1, known: str = "") -> None:
    """Append the events and tasks of a calendar.

    Args:
        text: The calendar.
        build: Takes them.
        level: The level of their headings.
        known: Words that stand before them, on one line; a description that is among them is left out.
    """
    for method, entry in _entries(text):
        summary = squeeze(entry.text("SUMMARY"))
        build.heading(": ".join(filter(None, (_METHODS.get(method, ""), summary))), level)
        build.paragraph("\n".join(_lines(entry)))
        description = entry.text("DESCRIPTION")
        if not known or squeeze(description) not in known:
            build.paragraph(description)


def _entries(text: str) -> Iterator[tuple[str, _Entry]]:
    """Yield the method of the calendar and each entry."""
    method = ""
    entry: _Entry | None = None
    inside = ""
    for line in _FOLD.sub("", text).splitlines():
        found = _LINE.match(line)
        if not found:
            continue
        name, value = found[1].upper(), found[3]
        kind = value.strip().upper()
        if inside:
            inside = "" if name == "END" and kind == inside else inside
        elif name == "BEGIN" and kind in _SHOWN:
            entry = _Entry()
        elif name == "END" and entry and kind in _SHOWN:
            yield method, entry
            entry = None
        elif name == "BEGIN" and kind != "VCALENDAR":
            inside = kind
        elif entry is None:
            method = kind if name == "METHOD" else method
        else:
            parameters = {key.upper(): text.strip('"') for key, text in _PARAMETER.findall(found[2])}
            entry.fields.setdefault(name, []).append((value, parameters))
    if entry:
        yield method, entry


def _lines(entry: _Entry) -> Iterator[str]:
    start = _moment(*entry.first("DTSTART"))
    end = _moment(*_last_day(*entry.first("DTEND"))) or _moment(*entry.first("DUE"))
    end = "" if end == start else end
    duration = "" if end else _duration(entry.first("DURATION")[0])
    lines = {
        "When": " to ".join(filter(None, (start, end))) + (f" for {duration}" if duration else ""),
        "Where": squeeze(entry.text("LOCATION")),
        "Organizer": _person(*entry.first("ORGANIZER")),
        "Attendees": ", ".join(filter(None, (_person(*who) for who in entry.fields.get("ATTENDEE", [])))),
        "Repeats": _repetition(entry.first("RRULE")[0]),
        "Status": entry.text("STATUS").lower().replace("confirmed", ""),
        "Categories": squeeze(entry.text("CATEGORIES")),
        "Comment": squeeze(entry.text("COMMENT")),
        "Contact": squeeze(entry.text("CONTACT")),
        "Link": squeeze(entry.text("URL")),
    }
    return (f"{name}: {value}" for name, value in lines.items() if value)


def _moment(value: str, parameters: dict[str, str]) -> str:
    """Return a date, or a date and time with its zone."""
    found = _MOMENT.match(value.strip())
    if not found:
        return value.strip()
    year, month, day, hour, minute, utc = found.groups()
    date = f"{year}-{month}-{day}"
    if hour is None:
        return date
    zone = "UTC" if utc else parameters.get("TZID", "")
    zone = f"({zone})" if zone and not zone.startswith("(") else zone
    return f"{date} {hour}:{minute} {zone}".rstrip()


def _last_day(value: str, parameters: dict[str, str]) -> tuple[str, dict[str, str]]:
    """Return the last day for the day after it, which a calendar has as the end of whole days."""
    found = _MOMENT.match(value.strip())
    if found and found[4] is None:
        with contextlib.suppress(ValueError, OverflowError):
            after = dt.date(int(found[1]), int(found[2]), int(found[3]))
            return (after - dt.timedelta(days=1)).strftime("%Y%m%d"), parameters
    return value, parameters


def _duration(value: str) -> str:
    found = _DURATION.match(value.strip().lstrip("+"))
    names = ("weeks", "days", "h", "min")
    return (
        " ".join(f"{n} {name}" for n, name in zip(found.groups(), names, strict=True) if n) if found else ""
    )


def _person(value: str, parameters: dict[str, str]) -> str:
    """Return the name and address of a person, and what they answered."""
    address = value.strip()
    if address.lower().startswith("mailto:"):
        address = address[len("mailto:") :]
    name = parameters.get("CN", "")
    who = f"{name} <{address}>" if name and address and name != address else name or address
    notes = (
        _ROLES.get(parameters.get("ROLE", "").upper()),
        _ANSWERS.get(parameters.get("PARTSTAT", "").upper()),
    )
    return f"{who} ({', '.join(filter(None, notes))})" if who and any(notes) else who


def _repetition(rule: str) -> str:
    """Return a rule of recurrence in words, as far as it is simple."""
    parts = dict(part.partition("=")[::2] for part in rule.strip().split(";") if "=" in part)
    return ", ".join(words(parts[name]) for name, words in _RULES.items() if parts.get(name))
