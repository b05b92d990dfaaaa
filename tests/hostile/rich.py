"""Hostile RTF, OpenDocument and old Office files."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from tests.harness.open_document import make_odp, make_odt
from tests.harness.powerpoint_binary import Slide, make_ppt
from tests.harness.word_binary import Mark, make_doc
from tests.hostile.kinds import HostileFile

_HEAD = rb"{\rtf1\ansi\deff0{\fonttbl{\f0\fcharset0 Arial;}}"


def rich_files() -> Iterator[HostileFile]:
    """Yield the files."""
    yield from _open_documents()
    yield from _old_documents()
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


def _open_documents() -> Iterator[HostileFile]:
    paragraph = "<text:p>a</text:p>"
    nests = {
        "lists": ("<text:list><text:list-item>", "</text:list-item></text:list>"),
        "tables": (
            "<table:table><table:table-row><table:table-cell/><table:table-cell>",
            "</table:table-cell></table:table-row></table:table>",
        ),
        "frames": ("<draw:frame><draw:text-box>", "</draw:text-box></draw:frame>"),
        "sections": ("<text:section>", "</text:section>"),
        "spans": ("<text:p><text:span>", "</text:span></text:p>"),
        "notes": ("<text:p><text:note><text:note-body>", "</text:note-body></text:note></text:p>"),
        "held": ("<text:p><draw:frame><draw:text-box>", "</draw:text-box></draw:frame></text:p>"),
    }
    for name, (opening, closing) in nests.items():
        for depth in (60, 3000):
            body = opening * depth + paragraph * 2000 + closing * depth
            yield HostileFile(f"{name}-{depth}.odt", lambda body=body: make_odt(body))  # type: ignore[misc]
    repeated = (
        '<table:table-cell table:number-columns-repeated="999999999"><text:p>a</text:p></table:table-cell>'
    )
    files = {
        "paragraphs": paragraph * 300_000,
        "repeated": f"<table:table>{f'<table:table-row>{repeated}</table:table-row>' * 9_000}</table:table>",
        "spaces": "<text:p>a" + '<text:s text:c="999999999"/>' * 100_000 + "b</text:p>",
        "items": "<text:list>"
        + "<text:list-item><text:p>a</text:p></text:list-item>" * 100_000
        + "</text:list>",
        "comments": "<office:annotation><text:p>a</text:p></office:annotation>" * 100_000 + paragraph,
        "same-object": '<text:p><draw:frame><draw:object xlink:href="./content.xml/.."/></draw:frame></text:p>'
        * 999,
        "objects": '<text:p><draw:frame><draw:object xlink:href="./O"/></draw:frame></text:p>' * 5_000,
    }
    for name, body in files.items():
        more = {"O__content.xml": "<text:p>a</text:p>" * 50_000} if name == "objects" else {}
        yield HostileFile(f"{name}.odt", lambda body=body, more=more: make_odt(body, **more))  # type: ignore[misc]
    slide = (
        "<draw:page><draw:frame><draw:text-box><text:p>a</text:p></draw:text-box></draw:frame></draw:page>"
    )
    yield HostileFile("slides.odp", lambda: make_odp(slide * 100_000))
    yield HostileFile("no-body.odp", lambda: make_odt(paragraph).replace(b"t.text", b"t.presentation"))


def _old_documents() -> Iterator[HostileFile]:
    cell = bytes.fromhex("162401")
    files = {
        "paragraphs": [Mark("a\r")] * 40_000,
        "cells": [Mark("a\x07", 0, cell)] * 40_000,
        "fields": [Mark("\x13" * 100_000 + "a" + "\x15" * 100_000 + "b\r")],
        "open-fields": [Mark("\x13\x14" * 200_000 + "a\r")],
        "long": [Mark("word " * 400_000 + "\r")],
        "unfinished": [Mark("\x01" * 100_000)],
    }
    for name, marks in files.items():
        yield HostileFile(f"{name}.doc", lambda marks=marks: make_doc(marks))  # type: ignore[misc]
    yield HostileFile("slides.ppt", partial(make_ppt, *[Slide([(0, "a")])] * 2_000))
    yield HostileFile("texts.ppt", partial(make_ppt, Slide([(0, "a")] * 50_000, [(4, "b")] * 50_000, "c")))
    yield HostileFile("locked.ppt", partial(make_ppt, Slide(), mark=0xF3D1C4DF), "encrypted_file")
    locked = partial(make_doc, [Mark("a\r")], encrypted=True)
    yield HostileFile("locked.doc", locked, "encrypted_file")
