from __future__ import annotations

import mmap
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from emberq.errors import ResourceFailed
from emberq.worker.resources import resources
from emberq.worker.resources.resources import (
    Resource,
    close_resources,
    needs_spawn,
    preload,
    resource,
)


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_declared", "_loaded"):
        monkeypatch.setattr(resources, name, [])
    monkeypatch.setattr(resources, "_forking_pid", None)


def test_a_resource_is_loaded_once_however_often_it_is_used() -> None:
    calls = []

    @resource
    def model() -> object:
        calls.append(1)
        return object()

    assert len({id(model()) for _ in range(50)}) == 1
    assert len(calls) == 1


def test_preload_loads_all_but_the_lazy_ones_and_records_it() -> None:
    @resource
    def eager() -> int:
        return 1

    @resource(lazy=True)
    def lazy() -> int:
        return 2

    [record] = preload()
    assert (record.name, record.pid) == ("eager", os.getpid())
    assert record.seconds >= 0
    assert lazy.record is None
    assert lazy() == 2
    assert lazy.record is not None


def test_a_resource_loads_those_it_needs_first() -> None:
    @resource
    def outer() -> str:
        return "on " + inner()

    @resource
    def inner() -> str:
        return "top"

    assert outer() == "on top"
    assert [record.name for record in preload()] == []
    close_resources()
    assert [record.name for record in preload()] == ["inner", "outer"]


def test_generators_are_cleaned_up_newest_first_even_if_one_fails() -> None:
    closed = []

    def make(name: str, *, fails: bool = False) -> Resource[str]:
        def loader() -> Iterator[str]:
            yield name
            closed.append(name)
            if fails:
                raise ValueError(name)

        made: Resource[str] = resource(loader)
        return made

    for one in (make("a"), make("b", fails=True), make("c")):
        one()
    close_resources()
    assert closed == ["c", "b", "a"]


def test_a_forked_child_has_the_value_without_loading_it() -> None:
    @resource
    def model() -> int:
        return os.getpid()

    preload()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, f"{model()} {len(preload())}".encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(write)
    with os.fdopen(read) as answer:
        assert answer.read() == f"{os.getpid()} 0"


def test_a_module_that_cannot_be_imported_is_named() -> None:
    with pytest.raises(ImportError, match="no_such_module"):
        preload(["no_such_module"])


def test_resources_are_loaded_in_order_on_the_main_thread() -> None:
    def make(name: str) -> Resource[sqlite3.Connection]:
        def loader() -> sqlite3.Connection:
            return sqlite3.connect(":memory:")

        loader.__name__ = name
        made: Resource[sqlite3.Connection] = resource(loader)
        return made

    made = [make(name) for name in "abc"]
    assert [record.name for record in preload()] == ["a", "b", "c"]
    for one in made:
        # sqlite3 refuses any thread but the one that connected.
        assert one().execute("SELECT 1").fetchone() == (1,)
        one().close()


def test_threads_that_need_a_resource_at_the_same_time_wait_for_one_load() -> None:
    loads = []
    meeting = threading.Barrier(4)

    @resource(lazy=True)
    def shared() -> object:
        loads.append(1)
        time.sleep(0.05)
        return object()

    def use() -> object:
        meeting.wait(timeout=20)
        return shared()

    with ThreadPoolExecutor(4) as threads:
        uses = [threads.submit(use) for _ in range(4)]
    assert len({id(one.result()) for one in uses}) == 1
    assert loads == [1]


def test_a_resource_that_two_others_need_is_loaded_once_and_first() -> None:
    @resource
    def first() -> str:
        return "first on " + shared()

    @resource
    def second() -> str:
        return "second on " + shared()

    @resource(lazy=True)
    def shared() -> str:
        return "shared"

    assert [record.name for record in preload()] == ["shared", "first", "second"]
    assert (first(), second()) == ("first on shared", "second on shared")


def test_a_loader_may_use_threads_that_load_what_it_needs() -> None:
    @resource
    def index() -> list[str]:
        with ThreadPoolExecutor(2) as threads:
            return list(threads.map(lambda part: part + shared(), "ab"))

    @resource(lazy=True)
    def shared() -> str:
        return "!"

    preload()
    assert index() == ["a!", "b!"]


def test_resources_that_need_one_another_are_refused_and_the_circle_named() -> None:
    @resource
    def hen() -> int:
        return egg()

    @resource
    def egg() -> int:
        return chick()

    @resource
    def chick() -> int:
        return hen()

    with pytest.raises(ResourceFailed, match=r"circle: hen → egg → chick → hen\."):
        hen()
    assert (hen.record, egg.record, chick.record) == (None, None, None)


def test_a_failure_says_which_resource_through_which_others_and_why() -> None:
    @resource
    def index() -> object:
        return model()

    @resource(lazy=True)
    def model() -> object:
        return weights()

    @resource(lazy=True)
    def weights() -> object:
        msg = "no such file: weights.bin"
        raise FileNotFoundError(msg)

    with pytest.raises(ResourceFailed) as failed:
        preload()
    assert failed.value.message == (
        "The resource index could not be loaded. It needs model, which could not be loaded. "
        "It needs weights, which could not be loaded. FileNotFoundError: no such file: weights.bin"
    )
    # A caller in a job gets the loader's own error, and it says where it came from.
    with pytest.raises(FileNotFoundError) as raised:
        model()
    assert raised.value.__notes__ == [
        "The resource weights was being loaded.",
        "The resource model was being loaded.",
    ]


def test_a_load_that_failed_is_tried_again_at_the_next_call() -> None:
    tries = []

    @resource(lazy=True)
    def model() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError
        return "loaded"

    with pytest.raises(ConnectionError):
        model()
    assert model() == "loaded"


def test_what_was_loaded_is_cleaned_up_when_another_resource_fails() -> None:
    closed = []

    @resource
    def opened() -> Iterator[str]:
        yield "open"
        closed.append("opened")

    @resource
    def broken() -> None:
        raise OSError

    with pytest.raises(ResourceFailed, match="broken"):
        preload()
    assert closed == ["opened"]


def test_time_and_memory_of_a_load_do_not_include_the_resources_loaded_on_its_way() -> None:
    megabytes = 1024 * 1024

    def take(size: int) -> mmap.mmap:
        # Pages of its own, so that none that an earlier test freed is used again.
        taken = mmap.mmap(-1, size * megabytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        taken.write(bytes(size * megabytes))
        return taken

    @resource
    def outer() -> mmap.mmap:
        inner()
        return take(16)

    @resource(lazy=True)
    def inner() -> mmap.mmap:
        time.sleep(0.2)
        return take(64)

    of_inner, of_outer = preload()
    assert (of_inner.name, of_outer.name) == ("inner", "outer")
    assert of_inner.seconds >= 0.2
    assert of_outer.seconds < of_inner.seconds
    assert 56 * megabytes < of_inner.memory_bytes < 72 * megabytes
    assert 8 * megabytes < of_outer.memory_bytes < 24 * megabytes


def test_what_cannot_be_forked_is_not_loaded_before_a_fork() -> None:
    @resource
    def shared() -> str:
        return "shared"

    @resource(fork_safe=False)
    def card() -> str:
        return "card"

    assert needs_spawn()
    assert [record.name for record in preload(before_fork=True)] == ["shared"]
    assert [record.name for record in preload()] == ["card"]


def test_a_shared_resource_that_needs_one_that_cannot_be_forked_is_refused() -> None:
    @resource
    def shared() -> str:
        return card()

    @resource(fork_safe=False)
    def card() -> str:
        return "card"

    with pytest.raises(ResourceFailed, match=r"shared could not be loaded.*card cannot be forked"):
        preload(before_fork=True)


def test_a_forked_child_does_not_clean_up_what_its_parent_loaded() -> None:
    read, write = os.pipe()

    @resource
    def opened() -> Iterator[str]:
        yield "open"
        os.write(write, b"closed by %d;" % os.getpid())

    preload()
    pid = os.fork()
    if pid == 0:
        close_resources()
        os.write(write, b"%s in the child;" % opened().encode())
        os._exit(0)
    os.waitpid(pid, 0)
    close_resources()
    os.close(write)
    with os.fdopen(read) as answer:
        assert answer.read() == f"open in the child;closed by {os.getpid()};"
