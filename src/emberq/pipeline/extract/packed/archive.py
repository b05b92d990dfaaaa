"""ZIP containers: what is unpacked is counted while it is unpacked.

The sizes that a directory declares are only used to refuse a container early.
"""

from __future__ import annotations

import io
import struct
import sys
import zipfile
import zlib
from typing import BinaryIO, Final

from emberq.errors import ArchiveBomb, CorruptFile, EncryptedFile
from emberq.pipeline.extract.limits import BUDGET_HINT, Meter

#: Unpacked bytes of a member from which on its compression ratio is checked.
_CHECKED_BYTES: Final = 50 << 20

#: Largest ratio of unpacked to packed size. Office XML reaches 10 to 50; the limit of deflate is 1,032.
MAX_RATIO: Final = 200

#: Most members of one container; the largest presentations have a few thousand.
MAX_MEMBERS: Final = 10_000

#: The methods of compression that documents have. Python would unpack others without a bound on its memory.
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

#: Bytes unpacked at once.
_CHUNK: Final = 1 << 20

#: The local header of a member: its signature, and the lengths of its name and extra field.
_LOCAL_HEADER: Final = struct.Struct("<4s22xHH")

#: The flag of a member that is protected by a password.
_ENCRYPTED_FLAG: Final = 0x1


def open_archive(stream: BinaryIO, meter: Meter) -> zipfile.ZipFile:
    """Open a ZIP container and check its directory.

    Args:
        stream: The container, seekable; it stays open when the archive is closed.
        meter: Its limits.

    Raises:
        ArchiveBomb: If the container would unpack to far more than a document has.
        CorruptFile: If its directory cannot be read.
    """
    try:
        archive = zipfile.ZipFile(stream)
    except (zipfile.BadZipFile, ValueError, OverflowError, NotImplementedError, OSError) as exc:
        raise CorruptFile(f"The ZIP container cannot be read: {exc}.") from exc
    try:
        _check_directory(archive.infolist(), meter)
    except ArchiveBomb:
        archive.close()
        raise
    return archive


def read_member(
    archive: zipfile.ZipFile, name: str | zipfile.ZipInfo, meter: Meter, *, size: int = sys.maxsize
) -> bytes:
    """Unpack one member.

    Args:
        archive: The container.
        name: The member's name or entry.
        meter: Counts the bytes.
        size: Most bytes to unpack; the rest is left out.

    Raises:
        ArchiveBomb: If it unpacks to more than a limit of the meter allows.
        CorruptFile: If the member is missing or damaged.
        EncryptedFile: If the member is protected by a password.
    """
    try:
        member = archive.getinfo(name) if isinstance(name, str) else name
        check_member(member)
        chunks: list[bytes] = []
        done = 0
        with archive.open(member) as part:
            while done < size and (chunk := part.read(min(_CHUNK, size - done))):
                done += len(chunk)
                _count(member, done, len(chunk), meter)
                chunks.append(chunk)
        return b"".join(chunks)
    except KeyError as exc:
        raise CorruptFile(f"The part {name} is missing.") from exc
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError) as exc:
        raise CorruptFile(f"The part {name} cannot be unpacked: {exc}.") from exc


def count_unpacked(stream: BinaryIO, archive: zipfile.ZipFile, meter: Meter) -> None:
    """Unpack all members and keep nothing: for a container that another library will unpack.

    That library may not believe the sizes in the directory, so each member is unpacked to its end.

    Raises:
        ArchiveBomb: If they unpack to more than a limit of the meter allows.
        CorruptFile: If a member is damaged.
        EncryptedFile: If a member is protected by a password.
    """
    for member in archive.infolist():
        check_member(member)
        if member.compress_type != zipfile.ZIP_DEFLATED:
            meter.add_unpacked(member.compress_size)
            continue
        stream.seek(member.header_offset)
        header = stream.read(_LOCAL_HEADER.size)
        if len(header) < _LOCAL_HEADER.size:
            raise CorruptFile(f"The part {member.filename} is cut short.")
        _signature, name_length, extra_length = _LOCAL_HEADER.unpack(header)
        stream.seek(name_length + extra_length, io.SEEK_CUR)
        try:
            _count_deflated(stream, member, meter)
        except zlib.error as exc:
            raise CorruptFile(f"The part {member.filename} cannot be unpacked: {exc}.") from exc


def _count_deflated(stream: BinaryIO, member: zipfile.ZipInfo, meter: Meter) -> None:
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    left = member.compress_size
    size = 0
    while left > 0 and not unpacker.eof:
        packed = stream.read(min(left, _CHUNK))
        if not packed:
            break
        left -= len(packed)
        while packed and not unpacker.eof:
            unpacked = len(unpacker.decompress(packed, _CHUNK))
            packed = unpacker.unconsumed_tail
            size += unpacked
            _count(member, size, unpacked, meter)


def check_member(member: zipfile.ZipInfo) -> None:
    """Check that a member can be unpacked.

    Raises:
        CorruptFile: If it is packed with a method that is not read.
        EncryptedFile: If it is protected by a password.
    """
    if member.flag_bits & _ENCRYPTED_FLAG:
        raise EncryptedFile(f"The part {member.filename} is protected by a password.")
    if member.compress_type not in _METHODS:
        raise CorruptFile(f"The part {member.filename} is packed in a way that documents do not use.")


def _count(member: zipfile.ZipInfo, size: int, added: int, meter: Meter) -> None:
    """Count unpacked bytes of a member; `size` is what it has unpacked to so far."""
    meter.add_unpacked(added)
    ratio = size / max(member.compress_size, 1)
    if size > meter.limits.part_bytes or (size > _CHECKED_BYTES and ratio > MAX_RATIO):
        raise _bomb(member, size)


def _bomb(member: zipfile.ZipInfo, size: int) -> ArchiveBomb:
    ratio = size / max(member.compress_size, 1)
    return ArchiveBomb(
        f"The part {member.filename} unpacks to at least {size >> 20:,} MiB, {ratio:,.0f} times its size.",
        hint=BUDGET_HINT,
    )


def _check_directory(members: list[zipfile.ZipInfo], meter: Meter) -> None:
    if len(members) > MAX_MEMBERS:
        raise ArchiveBomb(f"The file has {len(members):,} parts, more than {MAX_MEMBERS:,}.")
    for member in members:
        if member.file_size > _CHECKED_BYTES and member.file_size > MAX_RATIO * member.compress_size:
            raise _bomb(member, member.file_size)
    # Pictures and films are stored as they are; they are not read, and the file's size bounds them.
    packed = [member for member in members if member.file_size > 2 * member.compress_size]
    total = sum(member.file_size for member in packed)
    if total > meter.limits.unpacked_bytes:
        raise ArchiveBomb(
            f"The file unpacks to {total >> 20:,} MiB, more than {meter.limits.unpacked_bytes >> 20:,} MiB.",
            hint=BUDGET_HINT,
        )
