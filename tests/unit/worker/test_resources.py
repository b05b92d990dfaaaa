from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from emberq.worker import resources
from emberq.worker.resources import Resource, close_resources, load_records, preload, resource


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_registered", "_loaded", "_records"):
        monkeypatch.setattr(resources, name, [])


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
    assert lazy() == 2
    assert [record.name for record in load_records()] == ["eager", "lazy"]


def test_a_resource_loads_those_it_needs_first() -> None:
    @resource
    def outer() -> str:
        return "on " + inner()

    @resource
    def inner() -> str:
        return "top"

    assert outer() == "on top"
    assert [record.name for record in load_records()] == ["inner", "outer"]


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
        os.write(write, f"{model()} {len(load_records())}".encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(write)
    with os.fdopen(read) as answer:
        assert answer.read() == f"{os.getpid()} 1"


def test_a_module_that_cannot_be_imported_is_named() -> None:
    with pytest.raises(ImportError, match="no_such_module"):
        preload(["no_such_module"])
