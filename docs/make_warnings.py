"""Write docs/reference/warnings.md from the warning codes: `python docs/make_warnings.py`."""

from __future__ import annotations

from pathlib import Path

from emberq.errors.file_warnings import WarningCode

__all__ = ["PAGE", "render"]

PAGE = Path(__file__).parent / "reference" / "warnings.md"

_HEAD = """\
# Warning codes

A file that was read may have parts that are not in its text. Its `warnings` tell which: in the answers of the
API, in `emberq files`, and in the metric `emberq_file_warnings_total`. Codes are stable. Written by
`python docs/make_warnings.py`.

| Code | Meaning | Next step |
|---|---|---|
"""


def render() -> str:
    """Return the page."""
    return _HEAD + "".join(f"| `{code.value}` | {code.message} | {code.hint} |\n" for code in WarningCode)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
