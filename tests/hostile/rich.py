"""Hostile RTF documents."""

from __future__ import annotations

from collections.abc import Iterator

from tests.hostile.kinds import HostileFile

_HEAD = rb"{\rtf1\ansi\deff0{\fonttbl{\f0\fcharset0 Arial;}}"


def rich_files() -> Iterator[HostileFile]:
    """Yield the files."""
    files = {
        "groups": b"{" * 2_000_000,
        "many-groups": b"{a}" * 300_000,
        "unclosed": rb"{\b a" * 9_000,
        "optional": rb"{\*\x" * 300_000,
        "stars": rb"\*" * 500_000,
        "cells": rb"\cell" * 500_000,
        "rows": rb"a\cell\row" * 200_000,
        "nested": rb"\itap2 a\nestcell\nestrow\cell\row" * 50_000,
        "depths": b"".join(rb"\itap%d a\par" % (number % 99_999) for number in range(100_000)),
        "paragraphs": rb"a\par" * 300_000,
        "unicode": rb"\u-10179?" * 300_000,
        "skips": rb"\uc999999999\u65?" + b"a" * 500_000,
        "bytes": rb"\'81" * 500_000,
        "fonts": rb"{\fonttbl" + b"".join(rb"{\f%d\fcharset128 a;}" % n for n in range(50_000)) + b"}a",
        "one-font": rb"{\fonttbl{\f1" + b" a" * 500_000 + b"}}a",
        "styles": rb"{\stylesheet" + rb"{\s1\sbasedon0" * 100_000 + b"}" * 100_001 + b"a",
        "binary": rb"{\pict\bin2147483647 abc",
        "negative": rb"{\pict\bin-99 abc}\uc-1\u65?\itap-4 a\par\outlinelevel-7 b\s-1 c",
        "footnotes": rb"{\footnote a}" * 100_000,
        "comments": rb"{\*\atnauthor a}{\*\annotation b}" * 50_000,
        "words": rb"\aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" * 60_000,
        "picture": rb"{\pict " + b"00" * 4_000_000 + b"}a",
    }
    for name, body in files.items():
        yield HostileFile(f"{name}.rtf", lambda body=body: _HEAD + body)  # type: ignore[misc]
