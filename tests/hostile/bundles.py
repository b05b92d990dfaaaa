"""Hostile archives of documents: ZIP, TAR, gzip, bzip2 and XZ."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial

from tests.harness import sample_files
from tests.hostile.kinds import HostileFile, zip_members

_MIB = 1 << 20


def bundle_files() -> Iterator[HostileFile]:
    """Yield the files."""
    yield from _zips()
    yield from _tars()
    yield from _packed()


def _zips() -> Iterator[HostileFile]:
    yield HostileFile("nested.zip", _nested_zip, "no_text_found")
    yield HostileFile("bomb-member.zip", lambda: zip_members({"a.txt": b" " * (101 * _MIB)}), "archive_bomb")
    words = b"some words " * (4 * _MIB)
    yield HostileFile(
        "bomb-stored.zip",
        lambda: zip_members({f"{n}.zip": zip_members({"a.txt": words}) for n in range(12)}),
        "file_too_large",
    )
    yield HostileFile("same.zip", _same_bytes)
    yield HostileFile("many.zip", lambda: zip_members({f"{n}.txt": b"a" for n in range(9_999)}), "document")
    yield HostileFile(
        "paths.zip",
        lambda: zip_members({"../../etc/passwd": b"words\n", "/tmp/x": b"more\n", "c:\\x\0y": b"x\n"}),
        "document",
    )
    yield HostileFile("link.zip", _link, "document")
    yield HostileFile(
        "locked.zip",
        lambda: sample_files.lock_members(zip_members({"a.txt": b"words"})),
        "encrypted_file",
    )
    yield HostileFile("pictures.zip", lambda: zip_members({"a.png": sample_files.PNG}), "no_text_found")
    yield HostileFile(
        "bzip2.zip", lambda: zip_members({"a": b"words"}, method=zipfile.ZIP_BZIP2), "no_text_found"
    )


def _nested_zip() -> bytes:
    data = bytes(_MIB)
    for _ in range(20):
        data = zip_members({"a": data, "b": data})
    return data


def _same_bytes() -> bytes:
    """Return an archive whose directory names one large file under thousands of names."""
    data = zip_members({"a.txt": b"words and more words " * 100_000})
    start, end = data.find(b"PK\x01\x02"), data.find(b"PK\x05\x06")
    directory = data[start:end] * 9_000
    return (
        data[:start]
        + directory
        + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 9_000, 9_000, len(directory), start, 0)
    )


def _link() -> bytes:
    target = io.BytesIO(zip_members({"a.txt": b"words\n"}))
    with zipfile.ZipFile(target, "a") as archive:
        link = zipfile.ZipInfo("link.txt")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    return target.getvalue()


def _tars() -> Iterator[HostileFile]:
    yield HostileFile("links.tar", _tar_links, "document")
    yield HostileFile("many.tar", lambda: _header(b"a", 0) * 10_001 + bytes(1024), "archive_bomb")
    yield HostileFile("huge-size.tar", lambda: _header(b"a.txt", 1 << 62) + b"words\n", "document")
    yield HostileFile("negative-size.tar", lambda: _header(b"a.txt", -1) + b"words\n", "document")
    names = _header(b"././@LongLink", 40, b"L") + b"n".ljust(512, b"n")
    yield HostileFile("long-names.tar", lambda: names * 9_000 + _header(b"a.txt", 6) + b"words\n")
    attributes = b"1 " * 4_000
    yield HostileFile(
        "attributes.tar",
        lambda: (
            (_header(b"x", len(attributes), b"x") + attributes.ljust(8192, b" ")) * 500
            + _header(b"a.txt", 6)
            + b"words\n"
        ),
    )
    yield HostileFile("sparse.tar", lambda: _header(b"a.txt", 6, b"S") + b"words\n", "no_text_found")
    yield HostileFile("cut.tar", lambda: _header(b"a.txt", 5_000) + b"words\n", "document")


def _header(name: bytes, size: int, kind: bytes = b"0") -> bytes:
    written = b"%011o\0" % size if 0 <= size < 1 << 33 else b"\x80" + (size % (1 << 88)).to_bytes(11, "big")
    block = name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + written + b"00000000000\0"
    block += b" " * 8 + kind
    block = (block.ljust(257, b"\0") + b"ustar\x0000").ljust(512, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _tar_links() -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
            member = tarfile.TarInfo(f"../../{kind!r}")
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
        member = tarfile.TarInfo("/etc/words.txt")
        member.size = 6
        archive.addfile(member, io.BytesIO(b"words\n"))
    return target.getvalue()


def _packed() -> Iterator[HostileFile]:
    yield HostileFile("zeros.txt.gz", lambda: zlib.compress(bytes(120 * _MIB), 9, 31), "archive_bomb")
    yield HostileFile("spaces.bz2", lambda: bz2.compress(b" " * (120 * _MIB)), "archive_bomb")
    yield HostileFile("spaces.xz", lambda: lzma.compress(b" " * (120 * _MIB), preset=0), "archive_bomb")
    yield HostileFile("layers.gz", partial(_layers, 60), "no_text_found")
    yield HostileFile("document.docx", lambda: gzip.compress(sample_files.make_docx()), "document")
    yield HostileFile("streams.gz", lambda: gzip.compress(b"") * 20_000 + gzip.compress(b"words\n"))
    yield HostileFile("cut.gz", lambda: gzip.compress(b"some words, and more. " * 9_000)[:-20])
    yield HostileFile("header.gz", lambda: b"\x1f\x8b\x08\x0c\0\0\0\0\0\0\xff\xff", "corrupt_file")
    # The header of an XZ filter that asks for a dictionary of 4 GiB.
    yield HostileFile("dictionary.xz", _large_dictionary)


def _layers(depth: int) -> bytes:
    data = b"words\n"
    for _ in range(depth):
        data = gzip.compress(data)
    return data


def _large_dictionary() -> bytes:
    data = bytearray(lzma.compress(b"words " * 1000, preset=0))
    # Header of the block: size, flags, filter, size of its properties, dictionary; then a checksum.
    data[16] = 40
    data[20:24] = struct.pack("<I", zlib.crc32(bytes(data[12:20])))
    return bytes(data)
