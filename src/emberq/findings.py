"""What a check found, as every `doctor` tells it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

__all__ = ["Finding"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check.

    Attributes:
        name: What was checked.
        result: `fail` is what stops emberq from working, or loses files or makes them wait without end.
        detail: What was found, and what it means.
        fix: What to do about it; empty if nothing.
    """

    name: str
    result: Literal["ok", "warning", "fail"]
    detail: str
    fix: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the finding as JSON takes it."""
        return asdict(self)
