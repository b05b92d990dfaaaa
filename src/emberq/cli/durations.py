"""Lengths of time on the command line, such as `30d` or `12h`."""

from __future__ import annotations

import re

import typer

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"([0-9]{1,10})([smhd])")


def parse_duration(text: str) -> float:
    """Return a length of time in seconds.

    Raises:
        typer.BadParameter: If it is not a whole number with one of the units s, m, h and d.
    """
    found = _DURATION.fullmatch(text.strip().lower())
    if found is None:
        msg = f"{text!r} is not a length of time; examples: 90m, 12h, 30d"
        raise typer.BadParameter(msg)
    return float(int(found[1]) * _UNITS[found[2]])
