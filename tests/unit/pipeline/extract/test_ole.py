"""The streams of compound files."""

from __future__ import annotations

import io
import random
import struct

import pytest

from emberq.errors import ArchiveBomb, FileError
from emberq.pipeline.extract.limits import Limits, Meter
from emberq.pipeline.extract.packed.ole import CompoundFile
from tests.harness.compound import make_compound

STREAMS = {
    "Short": b"a few bytes",
    "Long": random.Random(3).randbytes(70_000),
    "Storage/Inner/Deep": b"deep " * 30,
    "Storage/Beside": b"x" * 4096,
    "Empty": b"",
}


def _open(data: bytes, limits: Limits | None = None) -> CompoundFile:
    return CompoundFile(io.BytesIO(data), Meter(limits))


def test_streams_are_read_by_their_paths() -> None:
    compound = _open(make_compound(STREAMS))

    assert compound.paths == {*STREAMS, "Storage", "Storage/Inner"}
    assert {path: compound.read(path) for path in STREAMS} == STREAMS
    assert compound.read("None") == compound.read("Storage") == b""


def test_a_large_file_has_its_allocation_table_in_many_sectors() -> None:
    large = {"A": random.Random(4).randbytes(9 << 20), "B": b"end"}

    compound = _open(make_compound(large))

    assert {path: compound.read(path) for path in large} == large


def test_bytes_of_streams_are_counted() -> None:
    compound = _open(make_compound({"A": bytes(60_000)}), Limits(unpacked_bytes=100_000))

    compound.read("A")
    with pytest.raises(ArchiveBomb):
        compound.read("A")


def test_a_stream_in_a_circle_ends() -> None:
    data = bytearray(make_compound({"A": b"a" * 5000}))
    table = struct.unpack_from("<I", data, 76)[0]
    # Each sector is followed by itself.
    for number in range(128):
        struct.pack_into("<I", data, 512 * (table + 1) + 4 * number, number)

    compound = _open(bytes(data))

    assert len(compound.read("A")) <= len(data)


def test_damaged_files_end_as_errors_or_with_less() -> None:
    whole = make_compound(STREAMS)
    chance = random.Random(5)
    for _ in range(300):
        data = bytearray(whole[: chance.randrange(600, len(whole))])
        for _ in range(9):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            compound = _open(bytes(data))
        except FileError:
            continue
        for path in compound.paths:
            assert len(compound.read(path)) <= len(data)
