"""ZIP containers: their directory is checked before anything is unpacked."""

from __future__ import annotations

import zipfile
import zlib
from typing import BinaryIO, Final

from emberq.errors import ArchiveBomb, CorruptFile, EncryptedFile

#: Most unpacked bytes of all members; the child that parses them has about this much memory.
MAX_TOTAL_BYTES: Final = 1 << 30

#: Unpacked bytes of a member from which on its compression ratio is checked.
MAX_MEMBER_BYTES: Final = 100 << 20

#: Largest ratio of unpacked to packed size. Office XML reaches 10 to 50; the limit of deflate is 1,032.
MAX_RATIO: Final = 200

#: Most members of one container; the largest presentations have a few thousand.
MAX_MEMBERS: Final = 10_000

#: The flag of a member that is protected by a password.
_ENCRYPTED_FLAG: Final = 0x1


def open_archive(stream: BinaryIO) -> zipfile.ZipFile:
    """Open a ZIP container and check its directory.

    Args:
        stream: The container, seekable; it stays open when the archive is closed.

    Raises:
        ArchiveBomb: If the container would unpack to far more than a document has.
        CorruptFile: If its directory cannot be read.
    """
    try:
        archive = zipfile.ZipFile(stream)
    except (zipfile.BadZipFile, ValueError, OverflowError, NotImplementedError, OSError) as exc:
        raise CorruptFile(f"The ZIP container cannot be read: {exc}.") from exc
    try:
        _check_directory(archive.infolist())
    except ArchiveBomb:
        archive.close()
        raise
    return archive


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Unpack one member.

    Raises:
        CorruptFile: If the member is missing or damaged.
        EncryptedFile: If the member is protected by a password.
    """
    try:
        member = archive.getinfo(name)
        if member.flag_bits & _ENCRYPTED_FLAG:
            raise EncryptedFile(f"The part {name} is protected by a password.")
        return archive.read(member)
    except KeyError as exc:
        raise CorruptFile(f"The part {name} is missing.") from exc
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError) as exc:
        raise CorruptFile(f"The part {name} cannot be unpacked: {exc}.") from exc


def _check_directory(members: list[zipfile.ZipInfo]) -> None:
    if len(members) > MAX_MEMBERS:
        raise ArchiveBomb(f"The file has {len(members):,} parts, more than {MAX_MEMBERS:,}.")
    total = sum(member.file_size for member in members)
    if total > MAX_TOTAL_BYTES:
        raise ArchiveBomb(
            f"The file unpacks to {total >> 20:,} MiB, more than {MAX_TOTAL_BYTES >> 20:,} MiB."
        )
    for member in members:
        ratio = member.file_size / max(member.compress_size, 1)
        if member.file_size > MAX_MEMBER_BYTES and ratio > MAX_RATIO:
            size = f"{member.file_size >> 20:,} MiB, {ratio:,.0f} times its size"
            raise ArchiveBomb(f"The part {member.filename} unpacks to {size}.")
