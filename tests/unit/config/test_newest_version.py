from __future__ import annotations

import os

from emberq.config.newest_version import NewestVersion
from tests.harness.clock import FakeClock


def test_a_forked_process_sees_what_is_announced_after_the_fork() -> None:
    newest = NewestVersion()
    ask, answer = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(ask[0], 1)
        os.write(answer[1], str(newest.version).encode())
        os._exit(0)
    newest.announce(7)
    os.write(ask[1], b"?")
    assert os.read(answer[0], 16) == b"7"
    os.waitpid(pid, 0)
    for descriptor in (*ask, *answer):
        os.close(descriptor)


def test_an_older_announcement_changes_nothing() -> None:
    newest = NewestVersion()
    newest.announce(5)
    newest.announce(3)
    assert (newest.version, newest.epoch) == (5, 0)


def test_a_confirmation_says_when_it_was_asked_for() -> None:
    clock = FakeClock(100.0)
    newest = NewestVersion(clock=clock)
    assert newest.confirmed_at == 0

    def read() -> int:
        clock.now += 5
        return 4

    newest.confirm(read)
    assert (newest.version, newest.confirmed_at) == (4, 100.0)


def test_a_database_that_went_back_begins_a_new_epoch() -> None:
    newest = NewestVersion()
    newest.announce(9)
    newest.confirm(lambda: 6)
    assert (newest.version, newest.epoch) == (6, 1)


def test_a_change_announced_while_the_question_was_open_is_no_going_back() -> None:
    newest = NewestVersion()
    newest.announce(5)

    def read() -> int:
        newest.announce(6)
        return 5

    newest.confirm(read)
    assert (newest.version, newest.epoch) == (6, 0)
