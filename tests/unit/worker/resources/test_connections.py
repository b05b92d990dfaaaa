from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from emberq.system import kept_open
from emberq.worker.job.scope import job_scope
from emberq.worker.resources import connections
from emberq.worker.resources.connections import close_connections, connection


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("_opened", "_inherited"):
        monkeypatch.setattr(connections, name, [])
    monkeypatch.setattr(kept_open, "_adopted", kept_open.KeptOpen())
    yield
    close_connections()


@dataclass
class Client:
    """A client with a socket that can be told to be broken."""

    log: list[str]
    socket: socket.socket = field(default_factory=socket.socket)
    is_broken: bool = False

    def ping(self) -> bool:
        self.log.append("ping")
        if self.is_broken:
            raise ConnectionError
        return True

    def hang_up(self) -> None:
        self.socket.close()

    def close(self) -> None:
        self.log.append("close")
        self.socket.close()


def test_it_is_opened_on_first_use_and_then_kept() -> None:
    log: list[str] = []

    @connection
    def client() -> Client:
        log.append("open")
        return Client(log)

    assert log == []
    with job_scope() as scope:
        assert client() is client()
    assert scope.leaked == {}
    with job_scope():
        client()
    # One check in the second job; the first opened it, which is proof enough.
    assert log == ["open", "ping"]


def test_outside_a_job_it_is_checked_at_every_use() -> None:
    log: list[str] = []
    client = connection(lambda: Client(log))
    client()
    client()
    client()
    assert log == ["ping", "ping"]


def test_one_that_fails_its_check_is_closed_and_opened_anew() -> None:
    log: list[str] = []
    client = connection(lambda: Client(log))
    with job_scope():
        first = client()
    first.is_broken = True
    with job_scope():
        second = client()
        assert client() is second
    assert second is not first
    assert first.socket.fileno() == -1
    assert log == ["ping", "close"]


def test_a_check_of_ones_own_decides_and_false_means_broken() -> None:
    answers = iter([True, False])

    @connection(check=lambda _client: next(answers), close=Client.hang_up)
    def client() -> Client:
        return Client([])

    first = client()
    assert client() is first
    assert client() is not first
    assert first.socket.fileno() == -1
    assert first.log == []


def test_what_a_pool_opens_later_is_no_leak_and_what_is_not_of_it_is() -> None:
    @connection
    def pool() -> list[socket.socket]:
        return []

    with job_scope() as scope:
        pool().append(socket.socket())
    assert scope.leaked == {}
    with job_scope() as scope:
        pool().append(socket.socket())
        stray = socket.socket()
    assert scope.leaked == {"connections": 1}
    for left in (*pool(), stray):
        left.close()


def test_everything_is_closed_newest_first_even_if_one_fails() -> None:
    log = []

    @connection
    def engine() -> Iterator[str]:
        yield "engine"
        log.append("engine")

    @connection(close=lambda _value: 1 / 0)
    def failing() -> str:
        return "failing"

    class Pool:
        def disconnect(self) -> None:
            log.append("pool")

    pool = connection(Pool)
    engine()
    failing()
    pool()
    close_connections()
    assert log == ["pool", "engine"]
    # It can be opened again.
    assert engine() == "engine"


class Polite(Client):
    """Says goodbye when it is freed, as database drivers do."""

    def __del__(self) -> None:
        self.log.append("goodbye")


def test_a_forked_child_never_uses_nor_closes_nor_frees_what_its_parent_opened() -> None:
    log: list[str] = []
    client = connection(lambda: Polite(log))
    ours = client()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        inherited = id(ours)
        del ours
        theirs = client()
        close_connections()
        os.write(write, f"{id(theirs) == inherited} {log}".encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(write)
    with os.fdopen(read) as answer:
        assert answer.read() == "False ['close']"
    assert client() is ours
