"""The finding of one check of a `doctor` command."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check.

    Attributes:
        name: What was checked.
        result: `fail` if it stops emberq from working, loses files or makes them wait for ever.
        detail: What was found, and what it means.
        fix: What to do; empty if nothing.
    """

    name: str
    result: Literal["ok", "warning", "fail"]
    detail: str
    fix: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the finding as a JSON object."""
        return asdict(self)
