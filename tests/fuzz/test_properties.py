"""The properties hold for the seeds, for bytes like them, and for any bytes."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.properties import PROPERTIES
from tests.fuzz.seeds import seeds_of

NAMES = sorted(PROPERTIES)


@pytest.mark.parametrize("name", NAMES)
def test_the_seeds_have_the_property(name: str) -> None:
    for seed in seeds_of(name):
        PROPERTIES[name](seed)


@pytest.mark.parametrize("name", NAMES)
def test_mutated_seeds_have_the_property(name: str) -> None:
    choose = random.Random(name)
    for seed in seeds_of(name):
        for _ in range(5):
            PROPERTIES[name](mutate(seed, choose))


@pytest.mark.parametrize("name", NAMES)
def test_any_bytes_have_the_property(name: str) -> None:
    @settings(deadline=None, max_examples=50)
    @given(
        st.binary(max_size=2000) | st.text(max_size=1000).map(lambda text: text.encode("utf-8", "replace"))
    )
    def check(data: bytes) -> None:
        PROPERTIES[name](data)

    check()


def mutate(seed: bytes, choose: random.Random) -> bytes:
    """Replace, double or cut pieces of the bytes."""
    data = bytearray(seed or b"a")
    for _ in range(choose.randint(1, 8)):
        at = choose.randrange(len(data))
        piece = data[at : at + choose.randint(1, 40)]
        match choose.randrange(4):
            case 0:
                data[at] = choose.randrange(256)
            case 1:
                data[at:at] = piece * choose.randint(1, 20)
            case 2:
                del data[at : at + len(piece) // 2]
            case _:
                data[at:at] = choose.choice(
                    [b"\0", b"\r\n", b"\xff\xfe", b"=?", b"--", b'"', b"\xed\xa0\x80"]
                )
        data = data or bytearray(b"a")
    return bytes(data)
