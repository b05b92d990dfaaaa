"""Hostile mail."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from functools import partial

from tests.harness import sample_files
from tests.hostile.kinds import HostileFile

_HEAD = b"From: a@example.org\r\nTo: b@example.org\r\nSubject: test\r\nMIME-Version: 1.0\r\n"
#: Names of Python's codecs that are no encodings of text, or decode in quadratic time.
CODECS = (
    *("punycode", "idna", "unicode_escape", "raw_unicode_escape", "utf-7", "uu", "hex", "bz2", "zlib"),
    *("rot13", "base64", "quopri", "undefined", "mbcs", "oem", "charmap", "no such codec", "utf_8\0"),
)


def mail_files() -> Iterator[HostileFile]:
    """Yield the files; each is at most a few mebibytes."""
    for codec in CODECS:
        yield HostileFile(f"codec-body-{codec}.eml", partial(_body, codec, _SLOW))
    for codec in CODECS[:6]:
        yield HostileFile(f"codec-word-{codec}.eml", partial(_word, codec))
        yield HostileFile(f"codec-name-{codec}.eml", partial(_extended_name, codec))
        yield HostileFile(f"codec-charset-{codec}.eml", partial(_extended_charset, codec))
        yield HostileFile(f"codec-html-{codec}.eml", partial(_body, codec, _HTML, kind="html"))
    yield HostileFile("codec-parts.eml", _punycode_parts)
    yield HostileFile("nested-multiparts.eml", lambda: _nested(300, 60_000))
    yield HostileFile("nested-deep.eml", lambda: _nested(3000, 10))
    yield HostileFile("nested-messages.eml", lambda: b"".join([_MESSAGE] * 500) + _HEAD + b"\r\ninner")
    yield HostileFile("nested-attachments.eml", lambda: _nested_attachments(8))
    yield HostileFile("parts.eml", lambda: _parts(b"\r\n--x\r\n\r\na", 60_000))
    yield HostileFile("empty-parts.eml", lambda: _parts(b"\r\n--x", 200_000))
    yield HostileFile("fields.eml", lambda: _HEAD + b"X-Field: value\r\n" * 60_000 + b"\r\nbody")
    yield HostileFile("long-field.eml", lambda: _HEAD + b"X-Field: " + b"v" * 2_000_000 + b"\r\n\r\nbody")
    yield HostileFile(
        "long-subject.eml", lambda: b"Subject: " + b"v" * 2_000_000 + b"\r\n" + _HEAD + b"\r\nb"
    )
    yield HostileFile("folded.eml", lambda: _HEAD + b"X-Field: a" + b"\r\n b" * 200_000 + b"\r\n\r\nbody")
    yield HostileFile("encoded-words.eml", lambda: _subject(b"=?utf-8?q?=61?= " * 60_000))
    yield HostileFile("encoded-starts.eml", lambda: _subject(b"=?" * 200_000))
    yield HostileFile("encoded-some.eml", lambda: _subject(b"=?utf-8?b?w6k=?= " * 3000))
    yield HostileFile("semicolons.eml", lambda: _typed(b'text/plain; a="' + b'";"' * 100_000))
    yield HostileFile("parameters.eml", lambda: _typed(b"text/plain" + b"; a=b" * 100_000))
    yield HostileFile("continuations.eml", lambda: _typed(_continuations(20_000)))
    yield HostileFile("many-semicolons.eml", _many_semicolons)
    yield HostileFile("boundary.eml", lambda: _typed(b'multipart/mixed; boundary="' + b"x" * 50_000 + b'"'))
    yield HostileFile("boundary-pattern.eml", lambda: _typed(b'multipart/mixed; boundary="(.*)*$(((["'))
    yield HostileFile("no-boundary.eml", lambda: _typed(b"multipart/mixed"))
    yield HostileFile("base64.eml", lambda: _transfer(b"base64", b"=" * 500_000 + b"!!!" * 200_000))
    yield HostileFile("base64-lines.eml", lambda: _transfer(b"base64", b"YQ==\r\n" * 200_000))
    yield HostileFile("quoted.eml", lambda: _transfer(b"quoted-printable", b"=\r\n" * 300_000 + b"=4"))
    yield HostileFile("quoted-marks.eml", lambda: _transfer(b"quoted-printable", b"=CC=81=CC=A3" * 90_000))
    yield HostileFile("uuencoded.eml", lambda: _transfer(b"x-uuencode", b"begin 644 a\r\n" * 60_000 + b"end"))
    yield HostileFile("unknown-transfer.eml", lambda: _transfer(b"gzip", b"\x1f\x8b" * 10_000))
    yield HostileFile("attached-bomb.eml", lambda: attach(sample_files.make_bomb(), "bomb.docx"))
    yield HostileFile("attached-marks.eml", lambda: attach(("a\u0301\u0323" * 100_000).encode(), "marks.txt"))
    yield HostileFile("same-attachment.eml", _many_attachments)
    yield HostileFile("names.eml", lambda: attach(b"text", "../../etc/passwd\u202e\n\0.txt"))
    yield HostileFile(
        "carriage-returns.eml", lambda: _HEAD.replace(b"\r\n", b"\r") + b"\r" + b"a\r" * 300_000
    )
    yield HostileFile("zeros.eml", lambda: _HEAD + b"\r\n" + b"a\0" * 200_000)
    yield HostileFile(
        "surrogates.eml", lambda: b"Subject: \xff\xfe\xed\xa0\x80\r\n" + _HEAD + b"\r\n\xff\xfe" * 9
    )
    yield HostileFile("bad-type.eml", lambda: _typed(b"text/\xff; charset*=x'y'%ff; charset*0=z"))
    yield HostileFile("partial.eml", lambda: _typed(b"message/partial; number=1; total=99") + b"body")
    yield HostileFile("external.eml", lambda: _typed(b"message/external-body; access-type=local-file"))
    yield HostileFile("header-only.eml", lambda: _HEAD)
    yield HostileFile("header-space.eml", lambda: _HEAD + b" \r\n" * 100_000)


#: Bytes that punycode decodes in quadratic time; the first is not ASCII.
_SLOW = b"\xe9-" + b"a" * 600_000
_HTML = b"<p>" + _SLOW
_MESSAGE = _HEAD + b"Content-Type: message/rfc822\r\n\r\n"


def _typed(content_type: bytes) -> bytes:
    return _HEAD + b"Content-Type: " + content_type + b"\r\n\r\nbody\r\n"


def _subject(value: bytes) -> bytes:
    return _HEAD.replace(b"test", value) + b"\r\nbody\r\n"


def _transfer(encoding: bytes, body: bytes) -> bytes:
    return _HEAD + b"Content-Transfer-Encoding: " + encoding + b"\r\n\r\n" + body


def _body(codec: str, body: bytes, *, kind: str = "plain") -> bytes:
    return _HEAD + f'Content-Type: text/{kind}; charset="{codec}"\r\n\r\n'.encode() + body


def _word(codec: str) -> bytes:
    return _subject(f"=?{codec}?q?{'-' + 'a' * 60_000}?=".encode())


def _extended_name(codec: str) -> bytes:
    part = f"Content-Disposition: attachment; filename*={codec}''{'-' + 'a' * 3900}\r\n\r\ntext\r\n--x\r\n"
    return _HEAD + b'Content-Type: multipart/mixed; boundary="x"\r\n\r\n--x\r\n' + part.encode() * 250


def _extended_charset(codec: str) -> bytes:
    part = f"Content-Type: text/plain; charset*={codec}''{'-' + 'a' * 3900}\r\n\r\n\udcff text\r\n--x\r\n"
    start = b'Content-Type: multipart/mixed; boundary="x"\r\n\r\n--x\r\n'
    return _HEAD + start + part.encode("utf-8", "surrogateescape") * 250


def _punycode_parts() -> bytes:
    part = b"Content-Type: text/plain; charset=punycode\r\n\r\n\xff-" + b"a" * 50_000 + b"\r\n--x\r\n"
    return _HEAD + b'Content-Type: multipart/mixed; boundary="x"\r\n\r\n--x\r\n' + part * 40


def _nested(depth: int, lines: int) -> bytes:
    parts = b"".join(
        b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (n, n) for n in range(depth)
    )
    return _HEAD + parts + b"\r\n" + b"-- a line\r\n" * lines


def _nested_attachments(depth: int) -> bytes:
    data = b"the innermost text"
    for level in range(depth):
        data = attach(data, "inner.txt" if not level else "inner.eml")
    return data


def _parts(part: bytes, count: int) -> bytes:
    return _HEAD + b'Content-Type: multipart/mixed; boundary="x"\r\n' + part * count


def _continuations(count: int) -> bytes:
    return b"text/plain" + b"".join(b"; charset*%d=a" % number for number in range(count))


def _many_semicolons() -> bytes:
    part = b'Content-Type: text/plain; a="' + b'";"' * 1300 + b"\r\n\r\na\r\n--x\r\n"
    return _HEAD + b'Content-Type: multipart/mixed; boundary="x"\r\n\r\n--x\r\n' + part * 250


def attach(data: bytes, name: str) -> bytes:
    return (
        _HEAD
        + b'Content-Type: multipart/mixed; boundary="y"\r\n\r\n--y\r\n'
        + b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n"
        + f'Content-Disposition: attachment; filename="{name}"\r\n\r\n'.encode()
        + base64.encodebytes(data)
        + b"\r\n--y--\r\n"
    )


def _many_attachments() -> bytes:
    """Return a mail with an attachment of a megabyte when unpacked, three hundred times."""
    page = sample_files.replace_members(
        sample_files.make_docx(), {"word/document.xml": _long_document(1 << 20)}
    )
    part = (
        b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n"
        b'Content-Disposition: attachment; filename="a.docx"\r\n\r\n'
        + base64.encodebytes(page)
        + b"\r\n--x\r\n"
    )
    return _HEAD + b'Content-Type: multipart/mixed; boundary="x"\r\n\r\n--x\r\n' + part * 60


def _long_document(size: int) -> bytes:
    word = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    paragraph = "<w:p><w:r><w:t>words</w:t></w:r></w:p>"
    inner = paragraph * (size // len(paragraph))
    return f'<w:document xmlns:w="{word}"><w:body>{inner}</w:body></w:document>'.encode()
