"""Every test of this folder runs over RQ's own worker and over the warm one."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from rq import Worker

from emberq import WarmWorker
from emberq.worker.resources import resources
from tests.integration.worker.drop_in.yard import Yard


@pytest.fixture(autouse=True)
def no_resources(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what other tests of this process declared: a worker preloads all that is there."""
    monkeypatch.setattr(resources, "_declared", [])


@pytest.fixture(params=[Worker, WarmWorker], ids=["rq.Worker", "emberq.WarmWorker"])
def worker_class(request: pytest.FixtureRequest) -> type[Worker]:
    """The class under test."""
    chosen: type[Worker] = request.param
    return chosen


@pytest.fixture
def yard(redis_url: str, worker_class: type[Worker]) -> Iterator[Yard]:
    handlers = {
        number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    }
    made = Yard(redis_url, worker_class)
    yield made
    made.connection.close()
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def warm_yard(redis_url: str) -> Iterator[Yard]:
    """For what RQ's own worker does worse."""
    made = Yard(redis_url, WarmWorker)
    yield made
    made.connection.close()
