"""Write docs/reference/formats.md from the table of formats: `python docs/make_formats.py`."""

from __future__ import annotations

from pathlib import Path

from emberq.pipeline.extract.formats import FORMATS

__all__ = ["PAGE", "render"]

PAGE = Path(__file__).parent / "reference" / "formats.md"

_HEAD = """\
# Formats

What emberq reads. A file is told by its bytes: by a signature first, then by what its text says; the ending
of its name decides only between kinds of text. A film, sound, font, program, database or archive of another
kind is refused with `unsupported_media_type`, whatever its name is. What of a file is not in its text is told
in its [`warnings`](warnings.md). How large a file may be is in [limits of a file](file-limits.md). Written by
`python docs/make_formats.py`.

| Format | Endings | Told by | Read by | Structure that is kept | Not read |
|---|---|---|---|---|---|
"""

_TYPES = """
## Media types

| Format | Media types |
|---|---|
"""


def render() -> str:
    """Return the page."""
    rows = "".join(
        f"| {one.name} | {one.suffixes} | {one.told_by} | {one.read_by} | {one.kept} | {one.left_out} |\n"
        for one in FORMATS
    )
    types = "".join(f"| {one.name} | {', '.join(f'`{kind}`' for kind in one.types)} |\n" for one in FORMATS)
    return _HEAD + rows + _TYPES + types


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
