"""Many small requests in few batches: everybody gets his own, once, in turn, and not behind others."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from emberq.config.current import configure_worker_config
from emberq.config.snapshot import Snapshot
from emberq.errors import EmbeddingUnavailable, InternalError, InvalidRequest, ServiceStopping
from emberq.models.batcher import BULK, QUERY, Batcher
from emberq.models.cache import RecentResults, StoredVectors
from emberq.models.queues import Input, ModelKey, QueueSpec, Result
from emberq.store.services import get_services
from tests.harness.eventually import eventually

ONE, OTHER = ModelKey("embedding", "one"), ModelKey("embedding", "other")


def number(text: Input) -> float:
    return float(zlib.crc32(str(text).encode()) % 100_000)


class Numbers:
    """A model of one number per text; texts that begin with `hold` wait until they are let go."""

    def __init__(self) -> None:
        self.fingerprint = "numbers"
        self.batches: list[list[Input]] = []
        self.holds = threading.Event()
        self.goes_on = threading.Event()
        self.error: Exception | None = None

    def canonical(self, one: Input) -> Input:
        return one

    def compute(self, inputs: Sequence[Input]) -> tuple[NDArray[np.float32], list[int]]:
        self.batches.append(list(inputs))
        if any(str(one).startswith("hold") for one in inputs):
            self.holds.set()
            assert self.goes_on.wait(30)
        if self.error is not None:
            raise self.error
        return np.array([[number(one)] for one in inputs], np.float32), [len(str(one)) for one in inputs]

    @property
    def computed(self) -> list[Input]:
        return [one for batch in self.batches for one in batch]


Make = Callable[..., tuple[Batcher, Numbers]]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[tuple[Batcher, Numbers]] = []

    def start(*given: QueueSpec) -> tuple[Batcher, Numbers]:
        configure_worker_config(lambda _: Snapshot(version=0))
        model = Numbers()
        specs = given or (QueueSpec(QUERY), QueueSpec(BULK, most_inputs=4))
        batcher = Batcher(specs, load=lambda _: model, stored=StoredVectors(get_services))
        batcher.start()
        made.append((batcher, model))
        return made[-1]

    yield start
    for batcher, model in made:
        model.goes_on.set()
        batcher.close()


def values(future: Future[list[Result]]) -> list[float]:
    return [float(result.row[0]) for result in future.result(30)]


def hold(batcher: Batcher, model: Numbers, queue: str = BULK, key: ModelKey = ONE) -> Future[list[Result]]:
    """Keep the queue's thread busy until `goes_on` is set."""
    future = batcher.submit(queue, [f"hold {queue}"], tenant="holder", model=key)
    assert model.holds.wait(30)
    model.batches.clear()
    return future


#: Hypothesis tries the words of the code it tests, too: none of these is to wait.
word = st.text(st.characters(exclude_categories=["Cs"]), max_size=4).filter(lambda text: text != "hold")
texts = st.lists(word, min_size=1, max_size=6)
sent = st.lists(st.tuples(st.sampled_from("abc"), texts, st.sampled_from([QUERY, BULK])), max_size=30)


@given(sent, st.integers(1, 8), st.integers(1, 3), st.sampled_from([0.0, 0.002]), st.integers(1, 20))
def test_each_request_gets_the_vectors_of_its_texts_in_their_order(
    requests: list[tuple[str, list[str], str]], most: int, threads: int, window: float, characters: int
) -> None:
    model = Numbers()
    specs = [
        QueueSpec(QUERY, most_inputs=most),
        QueueSpec(
            BULK,
            threads=threads,
            window_seconds=window,
            most_inputs=most,
            most_characters=characters,
        ),
    ]
    batcher = Batcher(specs, load=lambda _: model, stored=StoredVectors(get_services))
    batcher.start()
    with ThreadPoolExecutor(4) as senders:
        futures = list(
            senders.map(
                lambda one: batcher.submit(one[2], one[1], tenant=one[0], model=ONE),
                requests,
            )
        )
        for (_, wanted, _), future in zip(requests, futures, strict=True):
            assert values(future) == [number(text) for text in wanted]
            assert [result.tokens for result in future.result()] == [len(text) for text in wanted]
    batcher.close()
    assert all(len(batch) <= most for batch in model.batches)


def test_equal_texts_in_flight_are_computed_once_for_a_tenant(make: Make) -> None:
    batcher, model = make()
    held = hold(batcher, model)
    futures = [batcher.submit(BULK, ["same", "own"], tenant="a", model=ONE) for _ in range(5)]
    futures.append(batcher.submit(BULK, ["same"], tenant="b", model=ONE))
    # The text that is being computed just now is joined too.
    joined = batcher.submit(BULK, ["hold bulk"], tenant="holder", model=ONE)
    model.goes_on.set()
    wait([held, joined, *futures])
    assert sorted(map(str, model.computed)) == ["own", "same", "same"]
    assert values(joined) == [number("hold bulk")]
    assert values(batcher.submit(BULK, ["same"], tenant="a", model=ONE)) == [number("same")]
    assert len(model.computed) == 3


def test_queries_do_not_wait_behind_bulk(make: Make) -> None:
    batcher, model = make()
    held = hold(batcher, model)
    batcher.submit(BULK, [f"bulk {n}" for n in range(50)], tenant="a", model=ONE)
    assert values(batcher.submit(QUERY, ["a query"], tenant="a", model=ONE)) == [number("a query")]
    # Even one whose text waits in the other queue.
    assert values(batcher.submit(QUERY, ["bulk 49"], tenant="a", model=ONE)) == [number("bulk 49")]
    assert not held.done()
    assert batcher.waiting(BULK) == 50


def test_tenants_take_turns(make: Make) -> None:
    batcher, model = make()
    hold(batcher, model)
    flood = batcher.submit(BULK, [f"flood {n}" for n in range(20)], tenant="a", model=ONE)
    few = batcher.submit(BULK, ["few 1", "few 2"], tenant="b", model=ONE)
    model.goes_on.set()
    wait([flood, few])
    assert model.batches[0] == ["flood 0", "few 1", "flood 1", "few 2"]


def test_a_batch_is_for_one_model_and_models_take_turns(make: Make) -> None:
    batcher, model = make()
    hold(batcher, model)
    futures = [
        batcher.submit(BULK, [f"{key.name} {n}" for n in range(6)], tenant=tenant, model=key)
        for tenant, key in (("a", ONE), ("b", OTHER))
    ]
    model.goes_on.set()
    wait(futures)
    assert [{str(text).split()[0] for text in batch} for batch in model.batches] == [
        {"one"},
        {"other"},
        {"one"},
        {"other"},
    ]


def test_a_text_without_a_waiting_request_is_not_computed(make: Make) -> None:
    batcher, model = make()
    hold(batcher, model)
    gone = batcher.submit(BULK, ["gone", "shared"], tenant="a", model=ONE)
    shared = batcher.submit(BULK, ["shared"], tenant="a", model=ONE)
    assert gone.cancel()
    # Whoever comes for it before its turn still gets it.
    late = batcher.submit(BULK, ["late"], tenant="a", model=ONE)
    assert late.cancel()
    again = batcher.submit(BULK, ["late"], tenant="a", model=ONE)
    model.goes_on.set()
    assert values(shared) == [number("shared")]
    assert values(again) == [number("late")]
    assert sorted(map(str, model.computed)) == ["late", "shared"]
    assert values(batcher.submit(BULK, ["gone"], tenant="a", model=ONE)) == [number("gone")]


def test_a_request_that_is_cancelled_while_it_is_computed_disturbs_no_other(make: Make) -> None:
    batcher, model = make()
    held = hold(batcher, model)
    assert held.cancel()
    model.goes_on.set()
    with pytest.raises(CancelledError):
        held.result(30)
    assert values(batcher.submit(BULK, ["after"], tenant="a", model=ONE)) == [number("after")]


def test_texts_sent_within_the_window_share_a_batch_that_goes_when_it_is_full(make: Make) -> None:
    batcher, model = make(QueueSpec(BULK, window_seconds=60, most_inputs=3))
    futures = [batcher.submit(BULK, [f"text {n}"], tenant="a", model=ONE) for n in range(3)]
    wait(futures, timeout=30)
    assert model.batches == [["text 0", "text 1", "text 2"]]


def test_a_text_alone_goes_when_the_window_is_over(make: Make) -> None:
    batcher, _ = make(QueueSpec(BULK, window_seconds=0.01))
    assert values(batcher.submit(BULK, ["alone"], tenant="a", model=ONE)) == [number("alone")]


def test_idle_threads_take_what_a_long_turn_leaves(make: Make) -> None:
    batcher, model = make(QueueSpec(BULK, threads=2, most_characters=1))
    both = batcher.submit(BULK, ["hold this", "free"], tenant="a", model=ONE)
    eventually(lambda: "free" in model.computed)
    assert not both.done()
    model.goes_on.set()
    assert values(both) == [number("hold this"), number("free")]


def test_who_waits_when_the_process_stops_is_told_so(make: Make) -> None:
    batcher, model = make()
    held = hold(batcher, model)
    # One text of it is being computed, the other one waits.
    half = batcher.submit(BULK, ["hold bulk", "rest"], tenant="holder", model=ONE)
    waiting = batcher.submit(BULK, ["waits"], tenant="a", model=ONE)
    batcher.stop()
    for future in (waiting, half):
        with pytest.raises(ServiceStopping):
            future.result(30)
    with pytest.raises(ServiceStopping):
        batcher.submit(QUERY, ["late"], tenant="a", model=ONE)
    model.goes_on.set()
    assert values(held) == [number("hold bulk")]


@pytest.mark.parametrize(
    ("error", "told"), [(EmbeddingUnavailable(), EmbeddingUnavailable), (ValueError("secret"), InternalError)]
)
def test_a_model_that_fails_fails_its_batch_and_nothing_else(
    make: Make, error: Exception, told: type[Exception]
) -> None:
    batcher, model = make()
    model.error = error
    with pytest.raises(told) as caught:
        batcher.submit(BULK, ["one"], tenant="a", model=ONE).result(30)
    assert "secret" not in str(caught.value)
    model.error = None
    assert values(batcher.submit(BULK, ["one"], tenant="a", model=ONE)) == [number("one")]


def test_half_a_surrogate_pair_is_refused_before_it_waits(make: Make) -> None:
    batcher, _ = make()
    with pytest.raises(InvalidRequest, match="Unicode"):
        batcher.submit(BULK, ["fine", "\ud800"], tenant="a", model=ONE)
    assert values(batcher.submit(BULK, ["fine"], tenant="a", model=ONE)) == [number("fine")]


def test_recent_results_are_those_asked_for_last() -> None:
    def result(value: float) -> Result:
        return Result(np.full(100, value, np.float32), 1)

    recent = RecentResults(most_bytes=3 * 1000)
    for key in (1, 2, 3):
        recent.put(key, result(key))
    assert recent.get(1) is not None
    recent.put(4, result(4))
    assert [key for key in (1, 2, 3, 4) if recent.get(key) is not None] == [1, 3, 4]
    recent.put(3, result(3.5))
    assert [key for key in (1, 2, 3, 4) if recent.get(key) is not None] == [1, 3, 4]
