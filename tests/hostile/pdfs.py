"""Hostile PDF files."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from tests.harness import sample_files
from tests.hostile.kinds import HostileFile, make_raw_pdf

_MIB = 1 << 20
_CATALOG = b"<</Type/Catalog/Pages 2 0 R>>"
_FONT = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"


def pdf_files() -> Iterator[HostileFile]:
    """Yield the files; each is at most a few mebibytes."""
    yield HostileFile("form-cycle.pdf", lambda: _form_cycle(b"/F Do /F Do"))
    yield HostileFile("form-cycle-once.pdf", lambda: _form_cycle(b"/F Do"))
    yield HostileFile("form-tree.pdf", _form_tree)
    yield HostileFile("bomb.pdf", lambda: _page(zlib.compress(b"BT (a) Tj ET\n" + b" " * 300 * _MIB, 9)))
    yield HostileFile("bomb-text.pdf", lambda: _page(zlib.compress(_text(b"word " * 20, 200_000), 9)))
    yield HostileFile(
        "bomb-twice.pdf",
        lambda: _page(
            zlib.compress(zlib.compress(b" " * 300 * _MIB, 9), 9), filters=b"[/FlateDecode/FlateDecode]"
        ),
    )
    yield HostileFile("filters.pdf", lambda: _page(_packed(9), filters=b"[" + b"/FlateDecode" * 9 + b"]"))
    yield HostileFile("glyphs.pdf", lambda: _page(zlib.compress(_text(b"a" * 10_000, 200), 9)))
    yield HostileFile("operators.pdf", lambda: _page(zlib.compress(b"q Q " * 2_000_000, 9)))
    yield HostileFile("nested-arrays.pdf", lambda: _page(b"[" * 500_000, filters=None))
    yield HostileFile("paths.pdf", lambda: _page(zlib.compress(b"0 0 m 9 9 l S " * 500_000, 9)))
    yield HostileFile(
        "page-cycle.pdf", lambda: make_raw_pdf(_CATALOG, b"<</Type/Pages/Kids[2 0 R]/Count 1>>")
    )
    yield HostileFile("same-page.pdf", lambda: _same_page(20_000))
    yield HostileFile("same-page-text.pdf", lambda: _same_page(2000, text=_text(b"word " * 20, 2000)))
    yield HostileFile(
        "page-count.pdf", lambda: make_raw_pdf(_CATALOG, b"<</Type/Pages/Kids[]/Count 2147483647>>")
    )
    yield HostileFile(
        "page-count-one.pdf",
        lambda: make_raw_pdf(
            _CATALOG,
            b"<</Type/Pages/Kids[3 0 R]/Count 99999999>>",
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]>>",
        ),
    )
    yield HostileFile("kids-deep.pdf", _deep_kids)
    yield HostileFile(
        "parent-cycle.pdf",
        lambda: make_raw_pdf(
            _CATALOG, b"<</Type/Pages/Kids[3 0 R]/Count 1/Parent 3 0 R>>", b"<</Type/Page/Parent 2 0 R>>"
        ),
    )
    yield HostileFile(
        "reference-cycle.pdf",
        lambda: make_raw_pdf(
            _CATALOG,
            b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
            b"<</Type/Page/Parent 2 0 R/Contents 4 0 R>>",
            b"4 0 R",
        ),
    )
    yield HostileFile(
        "length-cycle.pdf",
        lambda: make_raw_pdf(
            _CATALOG,
            b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
            b"<</Type/Page/Parent 2 0 R/Contents 4 0 R>>",
            b"<</Length 4 0 R>>stream\nBT ET\nendstream",
        ),
    )
    yield HostileFile(
        "length-lie.pdf",
        lambda: make_raw_pdf(
            _CATALOG,
            b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
            b"<</Type/Page/Parent 2 0 R/Contents 4 0 R>>",
            b"<</Length 2147483647>>stream\nBT ET\nendstream",
        ),
    )
    yield HostileFile("deep-dictionary.pdf", lambda: make_raw_pdf(b"<</A" * 100_000))
    yield HostileFile("objects.pdf", lambda: make_raw_pdf(_CATALOG, *[b"<<>>"] * 60_000))
    yield HostileFile(
        "no-table.pdf", lambda: b"%PDF-1.4\n" + b"1 0 obj\n<<>>\nendobj\n" * 60_000 + b"startxref\n0\n%%EOF"
    )
    yield HostileFile(
        "previous-cycle.pdf",
        lambda: sample_files.make_pdf().replace(b"startxref", b"trailer<</Prev 9>>\nstartxref"),
    )
    yield HostileFile("object-stream.pdf", _object_stream_cycle)
    yield HostileFile(
        "huge-box.pdf",
        lambda: make_raw_pdf(
            _CATALOG,
            b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
            b"<</Type/Page/Parent 2 0 R/MediaBox[-1e38 -1e38 1e38 1e38]/UserUnit 1e30>>",
        ),
    )
    yield HostileFile("code-map.pdf", _code_map)
    yield HostileFile("marks.pdf", lambda: sample_files.make_pdf(["a" + "\u0301\u0323" * 100]))
    yield HostileFile("junk-before.pdf", lambda: b"x" * 900 + sample_files.make_pdf())
    yield HostileFile("mark-only.pdf", lambda: b"%PDF-1.7\n", "corrupt_file")
    yield HostileFile("locked.pdf", lambda: sample_files.make_pdf(password="secret"), "encrypted_file")
    yield HostileFile("scan.pdf", sample_files.make_scan, "no_text_found")


def _page(content: bytes, *, filters: bytes | None = b"/FlateDecode") -> bytes:
    filtered = b"/Filter%s" % filters if filters else b""
    return make_raw_pdf(
        _CATALOG,
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>",
        b"<</Length %d%s>>stream\n%s\nendstream" % (len(content), filtered, content),
        _FONT,
    )


def _text(line: bytes, count: int) -> bytes:
    return b"BT /F 9 Tf 9 780 Td 10 TL " + b"(%s) Tj T* " % line * count + b"ET"


def _packed(times: int) -> bytes:
    data = b" " * 50 * _MIB
    for _ in range(times):
        data = zlib.compress(data, 9)
    return data


def _form_cycle(calls: bytes) -> bytes:
    form = b"<</Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</F 5 0 R>>>>/Length %d>>"
    return make_raw_pdf(
        _CATALOG,
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 4 0 R/Resources<</XObject<</F 5 0 R>>>>>>",
        b"<</Length 5>>stream\n/F Do\nendstream",
        b"%s\nstream\n%s\nendstream" % (form % len(calls), calls),
    )


def _form_tree() -> bytes:
    """Return a page whose form calls another one ten times, which calls another one ten times, and so on."""
    forms = []
    for number in range(5, 16):
        calls = b"/F Do " * 10 if number < 15 else b"BT (a) Tj ET"
        forms.append(
            b"<</Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</F %d 0 R>>>>/Length %d>>"
            b"stream\n%s\nendstream" % (number + 1, len(calls), calls)
        )
    return make_raw_pdf(
        _CATALOG,
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 4 0 R/Resources<</XObject<</F 5 0 R>>>>>>",
        b"<</Length 5>>stream\n/F Do\nendstream",
        *forms,
    )


def _same_page(count: int, *, text: bytes = b"BT /F 9 Tf 9 780 Td (word) Tj ET") -> bytes:
    packed = zlib.compress(text, 9)
    return make_raw_pdf(
        _CATALOG,
        b"<</Type/Pages/Kids[%s]/Count %d>>" % (b"3 0 R " * count, count),
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>",
        b"<</Length %d/Filter/FlateDecode>>stream\n%s\nendstream" % (len(packed), packed),
        _FONT,
    )


def _deep_kids() -> bytes:
    nodes = [b"<</Type/Pages/Kids[%d 0 R]/Count 1>>" % (number + 1) for number in range(2, 5000)]
    return make_raw_pdf(_CATALOG, *nodes, b"<</Type/Page/MediaBox[0 0 600 800]>>")


def _object_stream_cycle() -> bytes:
    inner = zlib.compress(b"4 0 <</Type/ObjStm>>")
    return make_raw_pdf(
        _CATALOG,
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R>>",
        b"<</Type/ObjStm/N 1/First 4/Extends 4 0 R/Length %d/Filter/FlateDecode>>stream\n%s\nendstream"
        % (len(inner), inner),
    )


def _code_map() -> bytes:
    """Return a page whose font maps each letter to a long text."""
    ranges = b"begincmap\n1 begincodespacerange\n<00><ff>\nendcodespacerange\n1 beginbfchar\n<61><%s>\nendbfchar\nendcmap"
    mapping = ranges % (b"0041" * 100_000)
    content = zlib.compress(_text(b"a" * 1000, 100), 9)
    return make_raw_pdf(
        _CATALOG,
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>",
        b"<</Length %d/Filter/FlateDecode>>stream\n%s\nendstream" % (len(content), content),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/ToUnicode 6 0 R>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(mapping), mapping),
    )
