"""Zip files whose bytes depend on nothing but their content."""

from __future__ import annotations

from datetime import datetime
from io import BytesIO
from zipfile import ZIP_STORED, ZipFile, ZipInfo

__all__ = ["WRITTEN", "repack", "write_zip"]

#: The time that every generated file claims to have been written at.
WRITTEN = datetime(2026, 1, 15, 12, 0, 0)  # noqa: DTZ001 - zip and OOXML keep local times


def write_zip(members: dict[str, bytes]) -> bytes:
    """Return a zip of the members in their order, uncompressed and with a fixed date.

    Uncompressed, because the same text compresses to different bytes under different builds of zlib.
    """
    out = BytesIO()
    with ZipFile(out, "w", ZIP_STORED) as archive:
        for name, content in members.items():
            info = ZipInfo(name, WRITTEN.timetuple()[:6])
            # The system that made it would otherwise be that of the machine: 3 is Unix.
            info.create_system = 3
            archive.writestr(info, content)
    return out.getvalue()


def repack(archive: bytes) -> bytes:
    """Return a zip with the same members in the same order, written by `write_zip`."""
    with ZipFile(BytesIO(archive)) as opened:
        return write_zip({name: opened.read(name) for name in opened.namelist()})
