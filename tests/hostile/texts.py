"""Hostile plain text, tables, JSON, Markdown and HTML."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from functools import partial

from tests.hostile.kinds import HostileFile

_MIB = 1 << 20


def text_files() -> Iterator[HostileFile]:
    """Yield the files; each is at most a few mebibytes."""
    yield from _plain()
    yield from _tables()
    yield from _json()
    yield from _markdown()
    yield from _html()
    yield from _markup()


def _plain() -> Iterator[HostileFile]:
    marks = {
        "two": "\u0301\u0323",
        "one": "\u0301",
        "descending": "".join(map(chr, range(0x036F, 0x0300, -1))),
        "decomposing": "\u0f73",
        "japanese": "\u3099\u0323",
        "musical": "\U0001d165\u0301\u0323",
    }
    for name, run in marks.items():
        size = _MIB // len(run.encode())
        yield HostileFile(f"marks-{name}.txt", partial(_marked, run, size))
    yield HostileFile("marks-only.txt", lambda: ("\u0301\u0323" * 250_000).encode())
    yield HostileFile("marks-words.txt", lambda: (("a" + "\u0301\u0323" * 40 + " ") * 6000).encode())
    yield HostileFile("marks-utf16.txt", lambda: ("a" + "\u0301\u0323" * 300_000).encode("utf-16"))
    yield HostileFile("jamo.txt", lambda: ("\u1100\u1161\u11a8" * 100_000).encode())
    yield HostileFile("one-word.txt", lambda: b"a" * 3 * _MIB)
    yield HostileFile("one-line.txt", lambda: b"word " * 500_000)
    yield HostileFile("spaces.txt", lambda: b" " * 3 * _MIB, "no_text_found")
    yield HostileFile("line-ends.txt", lambda: b"\n" * 3 * _MIB, "no_text_found")
    yield HostileFile("spaced-lines.txt", lambda: (b"\n" + b" " * 2000) * 1500, "no_text_found")
    yield HostileFile("controls.txt", lambda: b"a" + b"\x1b\x08" * 500_000 + b"b")
    yield HostileFile("zero-width.txt", lambda: ("a" + "\u200b\u2060\ufeff" * 200_000 + "b").encode())
    yield HostileFile("bidi.txt", lambda: ("\u202e\u2066" * 200_000 + "abc").encode())
    yield HostileFile("private.txt", lambda: ("\ue000\uf8ff" * 200_000).encode())
    yield HostileFile("noncharacters.txt", lambda: ("a\ufdd0\uffff" * 100_000).encode())
    yield HostileFile("surrogates.txt", lambda: b"a\xed\xa0\x80\xed\xb0\x80" * 100_000)
    yield HostileFile("overlong.txt", lambda: b"a\xc0\xaf\xe0\x80\xaf" * 100_000)
    yield HostileFile("utf32.txt", lambda: b"\xff\xfe\0\0" + ("a" * 100_000).encode("utf-32-le"))
    yield HostileFile("utf32-bad.txt", lambda: b"\xff\xfe\0\0" + b"\xff\xff\xff\xff" * 100_000)
    yield HostileFile("utf16-odd.txt", lambda: "word ".encode("utf-16") * 50_000 + b"a")
    yield HostileFile("cut-utf8.txt", lambda: "é€𝄞".encode()[:-1] * 50_000)
    yield HostileFile("ideographs.txt", lambda: ("漢" * 300_000).encode())
    yield HostileFile("emoji.txt", lambda: ("👩\u200d👩\u200d👧\u200d👦" * 60_000).encode())
    yield HostileFile("nulls.txt", lambda: b"a\0b\0" * 200_000)
    yield HostileFile("legacy.txt", lambda: bytes(range(0xA1, 0xFF)) * 6000)
    yield HostileFile("legacy-noise.txt", lambda: random.Random(1).randbytes(60_000).translate(_LETTERS))
    yield HostileFile("paragraphs.txt", lambda: b"a\n\n" * 300_000)
    yield HostileFile("sentences.txt", lambda: b". " * 500_000)
    yield HostileFile("quotes.txt", lambda: ("." + "\"'”’)]»" * 100_000).encode() + b"a")
    yield HostileFile("one-byte.txt", lambda: b"a", "document")
    yield HostileFile("mark.txt", lambda: b"\xef\xbb\xbf")
    yield HostileFile("yaml.txt", lambda: b"a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n" * 2000)
    yield HostileFile("bash.txt", lambda: b"() { :;}; /bin/false\n" * 100, "document")


def _marked(run: str, count: int) -> bytes:
    return ("a" + run * count).encode()


_LETTERS = bytes(0x20 + byte % 0xDF if byte % 0x80 < 0x20 else byte for byte in range(256))


def _tables() -> Iterator[HostileFile]:
    yield HostileFile("wide.csv", lambda: (b"a," * 200_000 + b"a\n") * 3)
    yield HostileFile("empty-cells.csv", lambda: (b"," * 500_000 + b"x\n") * 2)
    yield HostileFile("quote.csv", lambda: b'a,b\n"' + b"x,\n" * 300_000)
    yield HostileFile("quotes.csv", lambda: b"a,b\n" + b'"' * _MIB)
    yield HostileFile("long-cell.csv", lambda: b"a,b\n1," + b"x" * 2 * _MIB + b"\n2,3\n")
    yield HostileFile("long-header.csv", lambda: b"h" * 100_000 + b",b\n" + b"1,2\n" * 100_000)
    yield HostileFile("many-rows.csv", lambda: b"a;b\n" * 500_000)
    yield HostileFile("widths.csv", lambda: b"".join(b"a," * n + b"\n" for n in range(1200)))
    yield HostileFile("formula.csv", lambda: b"name,value\n=cmd|'/c calc'!A0,@SUM(1)\n+1,-1\n", "document")
    yield HostileFile("line-ends.csv", lambda: b"a,b\r" * 100_000)
    yield HostileFile("delimiters.csv", lambda: b"\t;|," * 200_000)
    yield HostileFile("nul.csv", lambda: b"a,b\n1,\0\n" * 50_000)


def _json() -> Iterator[HostileFile]:
    yield HostileFile("arrays.json", lambda: b"[" * 500_000 + b"]" * 500_000)
    yield HostileFile("empty-arrays.json", lambda: b"[" + b"[]," * 500_000 + b"[]]")
    yield HostileFile("objects.json", lambda: b'{"a":' * 200_000 + b"1" + b"}" * 200_000)
    yield HostileFile("deep-enough.json", lambda: b'{"a":' * 900 + b"1" + b"}" * 900)
    yield HostileFile("long-key.json", lambda: b'{"' + b"k" * 500_000 + b'":[' + b"1," * 200_000 + b"1]}")
    yield HostileFile("deep-paths.json", lambda: _deep_paths(400, 2000))
    yield HostileFile("long-number.json", lambda: b'{"n": ' + b"9" * 2 * _MIB + b"}")
    yield HostileFile("exponent.json", lambda: b'{"a": 1e999999999, "b": -1e-99999999, "c": NaN}', "document")
    yield HostileFile("escapes.json", lambda: b'{"a": "' + b"\\ud800\\u0000" * 100_000 + b'b"}')
    yield HostileFile("marks.json", lambda: json.dumps({"a": "\u0301\u0323" * 100_000}).encode())
    yield HostileFile("unclosed.json", lambda: b'{"a": [' + b"1, " * 300_000)
    yield HostileFile("same-keys.json", lambda: b"{" + b'"a":1,' * 200_000 + b'"a":2}')
    yield HostileFile("lines.jsonl", lambda: b'{"a":1}\n' * 200_000)
    yield HostileFile("broken-lines.jsonl", lambda: b'{"a":1}\n{"a":2}\n' + b"{\n" * 300_000)
    yield HostileFile("deep-lines.jsonl", lambda: b'{"a":1}\n{"a":2}\n' + (b"[" * 5000 + b"\n") * 100)


def _deep_paths(depth: int, leaves: int) -> bytes:
    value: object = list(range(leaves))
    for _ in range(depth):
        value = {"a key of some length": value}
    return json.dumps(value).encode()


def _markdown() -> Iterator[HostileFile]:
    yield HostileFile("headings.md", lambda: b"# a\n\nb\n\n" * 130_000)
    yield HostileFile("levels.md", lambda: b"# a\n## b\n### c\n#### d\n##### e\n###### f\n" * 20_000)
    yield HostileFile("long-heading.md", lambda: b"# " + b"word " * 200_000 + b"\n\ntext\n")
    yield HostileFile("rules.md", lambda: b"|a|b|\n" + b"|" + b"-|" * 300_000 + b"\n")
    yield HostileFile("spaced-rule.md", lambda: b"|a|b|\n| " + b" " * 500_000 + b"x\n")
    yield HostileFile("fences.md", lambda: b"```\n" * 200_000)
    yield HostileFile("brackets.md", lambda: b"# t\n\n" + b"[" * 500_000 + b"](")
    yield HostileFile("links.md", lambda: b"# t\n\n" + b"[a](" * 200_000)
    yield HostileFile("stars.md", lambda: b"# t\n\n" + b"**a" * 300_000)
    yield HostileFile("underlines.md", lambda: b"a\n" + b"=" * _MIB + b"x\n")
    yield HostileFile("setext.md", lambda: b"a\n" * 300_000 + b"---\n")
    yield HostileFile("tables.md", lambda: b"|a|b|\n|-|-|\n|1|2|\n\n" * 50_000)


def _html() -> Iterator[HostileFile]:
    start = b"<!doctype html><html><body>"
    yield HostileFile("tables-600.html", lambda: start + b"<table><tr><td>" * 600 + b"<b>x</b> " * 120_000)
    yield HostileFile("tables-6000.html", lambda: start + b"<table><tr><td>x" * 6000)
    yield HostileFile("tables-flat.html", lambda: start + b"<table><tr><td>a<td>b</table>" * 40_000)
    yield HostileFile("tables-rows.html", lambda: start + (b"<table>" + b"<tr><td>a<td>b" * 500) * 60)
    yield HostileFile("long-cell.html", lambda: start + b"<table><tr><td>a<td>" + b"x" * 2 * _MIB)
    yield HostileFile("cells.html", lambda: start + b"<table><tr>" + b"<td>a" * 300_000)
    yield HostileFile(
        "captions.html", lambda: start + b"<table>" + b"<caption>a" * 100_000 + b"<tr><td>a<td>b"
    )
    yield HostileFile("divs.html", lambda: start + b"<div>" * 300_000 + b"x")
    yield HostileFile("spans.html", lambda: start + b"<span>a" * 200_000)
    yield HostileFile("fonts.html", lambda: start + b"<p><font><b><i>a" * 60_000)
    yield HostileFile("headings.html", lambda: start + b"<h1>a" * 100_000)
    yield HostileFile("nested-h1.html", lambda: start + b"<h1><div>" * 240 + b"word " * 200_000)
    yield HostileFile("nested-lists.html", lambda: start + b"<ul><li>a" * 50_000)
    yield HostileFile("attributes.html", lambda: start + b"<p " + _attributes(60_000) + b">x</p>")
    yield HostileFile("long-attribute.html", lambda: start + b'<p title="' + b"x" * 2 * _MIB + b'">x</p>')
    yield HostileFile("entities.html", lambda: start + b"&lt;&#x41;&nosuch;" * 100_000)
    yield HostileFile("number.html", lambda: start + b"&#" + b"9" * 500_000 + b";")
    yield HostileFile("comments.html", lambda: start + b"<!--" * 200_000 + b"x")
    yield HostileFile("comment-starts.html", lambda: b"<!-- a -->" * 100_000 + b"<p>x</p>")
    yield HostileFile("declarations.html", lambda: b"<?xml " + b"<?xml >" * 100_000)
    yield HostileFile("unclosed.html", lambda: start + b"<" * _MIB)
    yield HostileFile("marks.html", lambda: start + ("a" + "\u0301\u0323" * 250_000).encode())
    yield HostileFile("mark-entities.html", lambda: start + b"a" + b"&#x301;&#x323;" * 70_000)
    yield HostileFile("pre.html", lambda: start + b"<pre>" * 50_000 + b"x")
    yield HostileFile("script.html", lambda: start + b"<script>" + b"x" * _MIB)
    yield HostileFile("plaintext.html", lambda: start + b"<plaintext>" + b"<b>" * 200_000)
    for codec in (
        "punycode",
        "idna",
        "unicode_escape",
        "raw_unicode_escape",
        "utf-7",
        "zlib",
        "hex",
        "rot13",
    ):
        yield HostileFile(f"codec-{codec}.html", partial(_declared, codec))
    yield HostileFile("xhtml-cells.html", lambda: _xhtml(b"<table>" + b"<tr><td>" * 120, b"word " * 50_000))
    yield HostileFile("xhtml-titles.html", lambda: _xhtml(b"<title>" * 240, b"word " * 100_000))
    yield HostileFile("xhtml-deep.html", lambda: _xhtml(b"<div>" * 100_000, b"x"))
    yield HostileFile("entity-bomb.html", _entity_bomb)
    yield HostileFile("entity-file.html", _entity_file)


def _markup() -> Iterator[HostileFile]:
    xml = b"<?xml version='1.0'?>"
    yield HostileFile("deep.xml", lambda: xml + b"<a>" * 100_000 + b"x")
    yield HostileFile("notes.xml", lambda: xml + b"<a>" + b"<fn><p>x" * 110 + b"</p></fn>" * 110 + b"</a>")
    yield HostileFile("leaves.xml", lambda: xml + b"<a>" + b"<b c='d'>e</b>" * 100_000 + b"</a>")
    yield HostileFile(
        "names.xml", lambda: xml + b"<a>" + b"".join(b"<b%d/>x" % n for n in range(99_999)) + b"</a>"
    )
    yield HostileFile("entities.xml", lambda: _entity_bomb().replace(b"html", b"book"))
    yield HostileFile("short-entity.xml", _short_entity)
    yield HostileFile("entity-file.fb2", lambda: _entity_file().replace(b"html", b"FictionBook"))
    yield HostileFile("comments.xml", lambda: xml + b"<!-- - -->" * 100_000 + b"<a>b</a>")
    yield HostileFile("merged.html", lambda: b"<table>" + b"<tr><td rowspan=65534 colspan=1000>a" * 50_000)
    yield HostileFile("noscripts.html", lambda: b"<!doctype html>" + b"<noscript><!--" * 100_000)
    yield HostileFile("frames.html", lambda: b"<!doctype html>" + b"<iframe srcdoc='&lt;p&gt;a'>" * 50_000)
    yield HostileFile("ruby.html", lambda: b"<!doctype html>" + b"<ruby><rt>a" * 50_000)
    yield HostileFile(
        "math.html", lambda: b"<!doctype html><math>" + b"<mrow>" * 1500 + b"<mi>x</mi>" * 50_000
    )
    yield HostileFile("cells.ipynb", lambda: _notebook([{"cell_type": "code", "source": ["a"]}] * 100_000))
    yield HostileFile(
        "outputs.ipynb", lambda: _notebook([{"cell_type": "code", "outputs": [{"text": 1}] * 99_999}])
    )
    yield HostileFile(
        "odd.ipynb", lambda: _notebook([1, None, {"cell_type": [], "source": {}, "outputs": "x"}])
    )
    yield HostileFile("cues.vtt", lambda: b"WEBVTT\n\n" + b"00:01.000 --> 00:02.000\n<v a>b\n\n" * 50_000)
    yield HostileFile(
        "times.srt", lambda: b"1\n00:00:01,000 --> 00:00:02,000\n" + b"00:00:01,000 --> " * 99_999
    )
    yield HostileFile("signs.rst", lambda: b"Title\n=====\n" + b"====\n" * 100_000)
    yield HostileFile("directives.rst", lambda: b"Title\n=====\n" + b"..\n\n  a\n\n" * 100_000)
    yield HostileFile("stars.org", lambda: b"#+TITLE: a\n" + b"*" * _MIB + b"\n" + b"* a\n" * 100_000)
    tex = b"\\documentclass{a}\\begin{document}"
    yield HostileFile("braces.tex", lambda: tex + b"{" * 500_000)
    yield HostileFile("labels.tex", lambda: tex + b"\\label{\n" * 50_000)
    yield HostileFile("formulas.tex", lambda: tex + b"\\( " * 100_000 + b"$ " * 99_999)
    yield HostileFile("macros.tex", lambda: b"\\newcommand{\\x}{" + b"a" * 199 + b"}" + b"\\x " * 200_000)
    yield HostileFile("sections.tex", lambda: tex + b"\\section{\\title{a" * 50_000)
    yield HostileFile("lines.py", lambda: b"x\n\n" * 200_000)


def _short_entity() -> bytes:
    """Return a short name for a long text, many times."""
    dtd = b"<!DOCTYPE a [<!ENTITY e '" + b"x" * 999 + b"'>]>"
    return b"<?xml version='1.0'?>" + dtd + b"<a>" + b"&e;" * 300_000 + b"</a>"


def _notebook(cells: list[object]) -> bytes:
    return json.dumps({"cells": cells, "cell_type": "x", "nbformat": 4}).encode()


def _attributes(count: int) -> bytes:
    return b" ".join(b"a%d=1" % number for number in range(count))


def _declared(codec: str) -> bytes:
    head = f'<html><head><meta charset="{codec}"></head><body><p>'.encode()
    return head + b"\xe9-" + b"a" * 600_000 + b"</p></body></html>"


def _xhtml(start: bytes, text: bytes) -> bytes:
    return (
        b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><body>'
        + start
        + text
        + _closing(start)
    ) + b"</body></html>"


def _closing(start: bytes) -> bytes:
    names = [piece.rstrip(b">") for piece in start.split(b"<") if piece]
    return b"".join(b"</%s>" % name for name in reversed(names))


def _entity_bomb() -> bytes:
    levels = "".join(f'<!ENTITY e{n} "' + f"&e{n - 1};" * 10 + '">' for n in range(1, 10))
    return (
        f'<?xml version="1.0"?><!DOCTYPE html [<!ENTITY e0 "boom">{levels}]>'
        '<html xmlns="http://www.w3.org/1999/xhtml"><body><p>a &e9; b</p></body></html>'
    ).encode()


def _entity_file() -> bytes:
    return (
        b'<?xml version="1.0"?><!DOCTYPE html [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
        b'<html xmlns="http://www.w3.org/1999/xhtml"><body><p>a &x; b</p></body></html>'
    )
