"""Write docs/decisions/README.md, the list of the decisions: `python docs/make_decisions.py`."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["PAGE", "render"]

DECISIONS = Path(__file__).parent / "decisions"
PAGE = DECISIONS / "README.md"

_HEAD = """\
# Decisions

Each page tells the context, the choice and its consequence. Written by `python docs/make_decisions.py`.

"""
_TAIL = """
[Why each dependency is here](dependencies.md) has one line for each package.
"""


def render() -> str:
    """Return the page."""
    rows = []
    for path in sorted(DECISIONS.glob("[0-9]*.md")):
        title = re.sub(r"^# \d+\. ", "", path.read_text(encoding="utf-8").partition("\n")[0])
        rows.append(f"{int(path.name[:4])}. [{title}]({path.name})\n")
    return "".join([_HEAD, *rows, _TAIL])


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
