"""Archives of documents (ZIP, TAR, and what gzip, bzip2 or XZ packed): each file in them with its path.

Nothing is ever written: a path is only a heading, and links and devices are left out.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final, NamedTuple, TypeAlias

from emberq.errors import ArchiveBomb, CorruptFile, EncryptedFile, FileError, FileTooLarge, NoTextFound
from emberq.errors.file_warnings import WarningCode
from emberq.pipeline.extract.builder import DocumentBuilder
from emberq.pipeline.extract.kinds.signatures import find_signature, is_tar
from emberq.pipeline.extract.layout import ocr
from emberq.pipeline.extract.limits import BUDGET_HINT
from emberq.pipeline.extract.packed.archive import (
    MAX_MEMBERS,
    MAX_RATIO,
    check_member,
    open_archive,
    read_member,
)
from emberq.pipeline.extract.pictures import is_picture

#: Takes the number of members read so far, and of all members.
_Progress: TypeAlias = Callable[[int, int], None]

#: A file that unpacks what is read from it.
_Packed: TypeAlias = gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile

#: Files that file managers and editors leave in folders.
_LEFT_BY_PROGRAMS: Final = frozenset({"__macosx", "thumbs.db", "desktop.ini", "ehthumbs.db"})

#: Bytes of a member by which a picture or film is told, which is then not unpacked.
_HEAD: Final = 1024

#: The flag of a name in UTF-8, and the extra field that has the name in UTF-8.
_UTF8_FLAG: Final = 0x800
_UNICODE_PATH: Final = 0x7075
_EXTRA: Final = struct.Struct("<HH")

#: Bytes that are unpacked at once, and unpacked bytes from which on the ratio is checked.
_CHUNK: Final = 64 * 1024
_CHECKED_BYTES: Final = 50 << 20

#: The block of a TAR archive; the places of a name, size, kind, and of the first part of a long name.
_BLOCK: Final = 512
_NAME: Final = slice(0, 100)
_SIZE: Final = slice(124, 136)
_KIND: Final = slice(156, 157)
_PREFIX: Final = slice(345, 500)
_USTAR: Final = slice(257, 263)
_FILES: Final = frozenset({b"0", b"\0", b"7"})
#: Most bytes of a long name or of the attributes of a member.
_MAX_ATTRIBUTES: Final = 1 << 20
_PATH_ATTRIBUTE: Final = re.compile(rb"(?:^|\n)\d{1,9} path=([^\n]*)\n")
_SIZE_ATTRIBUTE: Final = re.compile(rb"(?:^|\n)\d{1,9} size=(\d{1,18})\n")
_SPARSE_ATTRIBUTE: Final = re.compile(rb"(?:^|\n)\d{1,9} GNU\.sparse\.")


class _Member(NamedTuple):
    """A file of a TAR archive: its path, where its bytes are, and whether they lack holes."""

    path: str
    start: int
    size: int
    is_sparse: bool


def read_zip(stream: BinaryIO, build: DocumentBuilder, progress: _Progress) -> int:
    """Read a ZIP archive; its pages are the files in it.

    Returns:
        The number of files.

    Raises:
        ArchiveBomb: If it would unpack to far more than documents have.
        CorruptFile: If its directory is damaged.
        EncryptedFile: If all its files are protected by a password.
        NoTextFound: If none of its files can be read.
    """
    with open_archive(stream, build.meter) as archive:
        members = [
            (path, member)
            for member in archive.infolist()
            if _is_file(member) and not _is_hidden(path := _decoded_name(member))
        ]
        if members and all(member.flag_bits & 1 for _path, member in members):
            raise EncryptedFile("The files in the archive are protected by a password.")
        for number, (path, member) in enumerate(members, 1):
            build.page = number
            _add_zip_member(archive, member, path, build)
            progress(number, len(members))
    _check_any(build, len(members))
    return len(members)


def _add_zip_member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: str, build: DocumentBuilder
) -> None:
    if not member.file_size:
        return
    try:
        check_member(member)
        head = read_member(archive, member, build.meter, size=_HEAD)
        if _skips(head, path, build):
            return
        if member.file_size > build.meter.limits.part_bytes:
            build.warn(WarningCode.TRUNCATED_AT_LIMIT, path)
            return
        data = read_member(archive, member, build.meter)
    except EncryptedFile:
        build.warn(WarningCode.PART_ENCRYPTED, path)
    except (ArchiveBomb, FileTooLarge):
        raise
    except FileError:
        build.warn(WarningCode.ATTACHMENT_UNREADABLE, path)
    else:
        build.add_member(data, path)


def _skips(head: bytes, path: str, build: DocumentBuilder) -> bool:
    """Return whether a member is left out by its first bytes, and tell it."""
    if find_signature(head, io.BytesIO(head)) is None:
        return False
    if not is_picture(head):
        build.warn(WarningCode.ATTACHMENT_UNREADABLE, path)
        return True
    if ocr.may_read(build.meter):
        return False
    build.warn(WarningCode.IMAGES_SKIPPED, path)
    return True


def _is_file(member: zipfile.ZipInfo) -> bool:
    """Return whether a member is a file: no folder, link or device."""
    mode = member.external_attr >> 16
    return not member.is_dir() and (not stat.S_IFMT(mode) or stat.S_ISREG(mode))


def _is_hidden(path: str) -> bool:
    parts = path.replace("\\", "/").lower().split("/")
    return any(
        (part.startswith((".", "~$")) and part not in {".", ".."}) or part in _LEFT_BY_PROGRAMS
        for part in parts
    )


def _decoded_name(member: zipfile.ZipInfo) -> str:
    """Return a member's path: in UTF-8 if it is, otherwise in the code page of DOS."""
    if member.flag_bits & _UTF8_FLAG:
        return member.filename
    extra = member.extra
    at = 0
    while at + _EXTRA.size <= len(extra):
        kind, length = _EXTRA.unpack_from(extra, at)
        if kind == _UNICODE_PATH:
            # The version of the field and a checksum of the other name come first.
            return extra[at + 9 : at + 4 + length].decode("utf-8", "replace") or member.filename
        at += _EXTRA.size + length
    try:
        return member.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return member.filename


def read_tar(stream: BinaryIO, build: DocumentBuilder, progress: _Progress) -> int:
    """Read a TAR archive; its pages are the files in it.

    Returns:
        The number of files.

    Raises:
        ArchiveBomb: If it has too many files.
        NoTextFound: If none of its files can be read.
    """
    members = [member for member in _tar_members(stream, build) if not _is_hidden(member.path)]
    for number, member in enumerate(members, 1):
        build.page = number
        _add_tar_member(stream, member, build)
        progress(number, len(members))
    _check_any(build, len(members))
    return len(members)


def _add_tar_member(stream: BinaryIO, member: _Member, build: DocumentBuilder) -> None:
    if not member.size:
        return
    stream.seek(member.start)
    head = stream.read(min(member.size, _HEAD))
    if member.is_sparse:
        build.warn(WarningCode.ATTACHMENT_UNREADABLE, member.path)
    elif _skips(head, member.path, build):
        return
    elif member.size > build.meter.limits.part_bytes:
        build.warn(WarningCode.TRUNCATED_AT_LIMIT, member.path)
    else:
        data = head + stream.read(member.size - len(head))
        if len(data) < member.size:
            build.warn(WarningCode.PART_UNREADABLE, member.path)
        build.add_member(data, member.path)


def _tar_members(stream: BinaryIO, build: DocumentBuilder) -> Iterator[_Member]:
    """Yield the files of a TAR archive; where it is damaged, the rest is left out with a warning."""
    at = count = 0
    end = stream.seek(0, io.SEEK_END)
    name = attributes = b""
    while len(block := _read_at(stream, at, _BLOCK)) == _BLOCK and block.strip(b"\0"):
        count += 1
        if count > MAX_MEMBERS:
            raise ArchiveBomb(f"The archive has more than {MAX_MEMBERS:,} files.")
        size = _tar_number(block[_SIZE])
        if size is None or not is_tar(block):
            build.warn(WarningCode.PART_UNREADABLE)
            return
        start, kind = at + _BLOCK, block[_KIND]
        if found := _SIZE_ATTRIBUTE.search(attributes):
            size = int(found[1])
        # One byte more than there is shows that the member is cut.
        size = min(size, end - start + 1)
        at = start + -(-size // _BLOCK) * _BLOCK
        match kind:
            case b"L":
                name = _read_at(stream, start, min(size, _MAX_ATTRIBUTES)).rstrip(b"\0")
                continue
            case b"x" | b"X":
                attributes = _read_at(stream, start, min(size, _MAX_ATTRIBUTES))
                continue
            case b"K" | b"g":
                continue
            case _ if kind == b"S" or kind in _FILES:
                path = _tar_path(block, name, attributes)
                is_sparse = kind == b"S" or _SPARSE_ATTRIBUTE.search(attributes) is not None
                if not path.endswith("/"):
                    yield _Member(path, start, size, is_sparse)
        name = attributes = b""


def _tar_path(block: bytes, name: bytes, attributes: bytes) -> str:
    prefix = block[_PREFIX].partition(b"\0")[0] if block[_USTAR] == b"ustar\0" else b""
    short = b"/".join(filter(None, [prefix, block[_NAME].partition(b"\0")[0]]))
    found = _PATH_ATTRIBUTE.search(attributes)
    path = found[1] if found else name or short
    try:
        return path.decode("utf-8")
    except UnicodeDecodeError:
        return path.decode("cp1252", "replace")


def _tar_number(field: bytes) -> int | None:
    """Return a number of a header: octal digits, or, with the highest bit set, bytes."""
    if field[0] & 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    return int(digits, 8) if re.fullmatch(rb"[0-7]*", digits) and digits else None if digits else 0


def _read_at(stream: BinaryIO, at: int, size: int) -> bytes:
    stream.seek(at)
    return stream.read(size)


def read_gzip(stream: BinaryIO, build: DocumentBuilder, progress: _Progress) -> int:
    """Read what gzip packed: one file, or a TAR archive; errors as for `read_tar`."""
    name = _gzip_name(_read_at(stream, 0, _HEAD))
    stream.seek(0)
    return _read_packed(gzip.GzipFile(fileobj=stream), stream, name, build, progress)


def read_bzip2(stream: BinaryIO, build: DocumentBuilder, progress: _Progress) -> int:
    """Read what bzip2 packed: one file, or a TAR archive; errors as for `read_tar`."""
    return _read_packed(bz2.BZ2File(stream), stream, "", build, progress)


def read_xz(stream: BinaryIO, build: DocumentBuilder, progress: _Progress) -> int:
    """Read what XZ packed: one file, or a TAR archive; errors as for `read_tar`."""
    return _read_packed(lzma.LZMAFile(stream), stream, "", build, progress)


def _gzip_name(head: bytes) -> str:
    """Return the name of the packed file, if the header of gzip has it."""
    at = 10
    if len(head) > at and head[3] & 4:
        at += 2 + int.from_bytes(head[10:12], "little")
    return head[at:].partition(b"\0")[0].decode("latin-1") if head[3] & 8 else ""


def _read_packed(
    packed: _Packed, stream: BinaryIO, name: str, build: DocumentBuilder, progress: _Progress
) -> int:
    data = _unpack(packed, stream, build)
    if is_tar(data):
        return read_tar(io.BytesIO(data), build, progress)
    build.page = 1
    build.add_member(data, name)
    progress(1, 1)
    _check_any(build, 1)
    return 1


def _unpack(packed: _Packed, stream: BinaryIO, build: DocumentBuilder) -> bytes:
    """Return the unpacked bytes of a file; if it is damaged, those before that place."""
    pieces: list[bytes] = []
    done = 0
    try:
        while piece := packed.read(_CHUNK):
            done += len(piece)
            build.meter.add_unpacked(len(piece))
            if done > _CHECKED_BYTES and done > MAX_RATIO * stream.tell():
                raise ArchiveBomb(f"The file unpacks to at least {done >> 20:,} MiB.", hint=BUDGET_HINT)
            pieces.append(piece)
    except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as exc:
        if not pieces:
            raise CorruptFile(f"The archive cannot be unpacked: {exc}.") from exc
        build.warn(WarningCode.PART_UNREADABLE)
    return b"".join(pieces)


def _check_any(build: DocumentBuilder, files: int) -> None:
    if build.is_blank:
        raise NoTextFound(
            f"The archive has {files:,} files, and text can be read from none of them.",
            hint="Unpack it and upload the files in it one by one to see why.",
        )
