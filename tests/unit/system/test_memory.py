"""Freed memory: it is given back to the system."""

from __future__ import annotations

import sys
import threading

import pytest

from emberq.system.memory import FreedMemory, anonymous_bytes


@pytest.mark.skipif(sys.platform != "linux", reason="malloc_trim is glibc's")
def test_what_a_thread_freed_is_given_back() -> None:
    freed = FreedMemory()
    kept: list[bytes] = []

    def work() -> None:
        blocks = [bytes(range(250)) * 64 for _ in range(8000)]
        # The arena of a thread shrinks at its end only.
        kept.append(blocks[-1])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    before = anonymous_bytes()
    freed.give_back()
    assert before - anonymous_bytes() > 50 << 20
    assert kept
