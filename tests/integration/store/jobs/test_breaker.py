"""One tenant's failing embedding provider: only its jobs wait, and no attempts are used up."""

from __future__ import annotations

import uuid

import pytest

from emberq.errors import CorruptFile, EmbeddingRejected, EmbeddingUnavailable, EmberqError
from emberq.store.files.commit import commit_file
from emberq.store.jobs.claim import claim_job
from emberq.store.jobs.finish import fail_attempt
from emberq.store.services import Services
from tests.integration.store.crowd import Crowd


@pytest.fixture
def crowd(services: Services) -> Crowd:
    made = Crowd(services)
    made.lease(1)
    return made


def attempt(crowd: Crowd, error: EmberqError | None, *, expect: uuid.UUID | None = None) -> str:
    """Let the next job run into an error, or succeed, and return its state."""
    [job] = crowd.admit(1)
    assert expect in {None, job}
    with crowd.services.database.system_transaction() as connection:
        [[ticket]] = crowd.sql("SELECT ticket FROM jobs WHERE id = :id", id=job)
        claimed = claim_job(connection, job, ticket=ticket, worker="w", host_id=None)
        assert claimed is not None
        if error is None:
            commit_file(
                connection, claimed, text="", media_type="text/plain", page_count=None, chunks=[], timings={}
            )
        else:
            state = fail_attempt(connection, job, error, fence=claimed.fence, retry_delay_seconds=0)
            assert state is not None
            return state
    return "completed"


def open_breaker(crowd: Crowd) -> None:
    for job in crowd.add("a", 5):
        assert attempt(crowd, EmbeddingRejected(), expect=job) in {"failed", "pending"}


def let_probe_go(crowd: Crowd) -> None:
    crowd.sql("UPDATE breakers SET retry_at = now()")


def seconds_to_probe(crowd: Crowd) -> float:
    [[seconds]] = crowd.sql("SELECT extract(epoch FROM retry_at - now()) FROM breakers")
    return float(seconds)


def version_row(crowd: Crowd) -> None:
    crowd.sql(
        "INSERT INTO file_versions (tenant, file_id, version, sha256, size, blob)"
        " SELECT tenant, id, 1, 'x', 1, 'x' FROM files ON CONFLICT DO NOTHING"
    )


@pytest.fixture(autouse=True)
def versions(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every file its version, without which nothing can be claimed."""
    add = crowd.add

    def add_with_versions(*args: object, **options: object) -> list[uuid.UUID]:
        jobs = add(*args, **options)  # type: ignore[arg-type]
        version_row(crowd)
        return jobs

    monkeypatch.setattr(crowd, "add", add_with_versions)


def test_five_failures_in_a_row_delay_the_jobs_of_that_tenant_only(crowd: Crowd) -> None:
    open_breaker(crowd)
    waiting = crowd.add("a", 10)
    [other] = crowd.add("b")
    assert crowd.reason(waiting[0]) == "backoff"
    assert crowd.admit(5) == [other]
    assert 20 < seconds_to_probe(crowd) <= 30


def test_success_in_between_keeps_it_closed(crowd: Crowd) -> None:
    crowd.add("a", 9)
    for n in range(9):
        attempt(crowd, None if n == 4 else EmbeddingRejected())
    [job] = crowd.add("a")
    assert crowd.admit(1) == [job]


def test_other_errors_do_not_count(crowd: Crowd) -> None:
    crowd.add("a", 6)
    for _ in range(6):
        assert attempt(crowd, CorruptFile()) == "failed"
    assert crowd.sql("SELECT * FROM breakers") == []


def test_old_failures_are_forgotten(crowd: Crowd) -> None:
    crowd.add("a", 6)
    for _ in range(4):
        attempt(crowd, EmbeddingRejected())
    crowd.sql("UPDATE breakers SET failed_at = now() - interval '11 minutes'")
    assert attempt(crowd, EmbeddingRejected()) == "failed"
    assert crowd.sql("SELECT failures, retry_at FROM breakers") == [(1, None)]


def test_one_probe_at_a_time_and_each_failure_doubles_the_pause(crowd: Crowd) -> None:
    open_breaker(crowd)
    crowd.add("a", 10)
    for longest in (60, 120, 240):
        let_probe_go(crowd)
        [probe] = crowd.admit(5)
        assert crowd.admit(5) == []
        crowd.move([probe], "pending")
        assert attempt(crowd, EmbeddingUnavailable(), expect=probe) == "pending"
        assert longest - 10 < seconds_to_probe(crowd) <= longest
        assert crowd.admit(5) == []


def test_the_next_probe_is_another_job(crowd: Crowd) -> None:
    open_breaker(crowd)
    crowd.sql("DELETE FROM jobs")
    first, second = crowd.add("a", 2)
    let_probe_go(crowd)
    attempt(crowd, EmbeddingUnavailable(), expect=first)
    let_probe_go(crowd)
    attempt(crowd, EmbeddingUnavailable(), expect=second)


def test_an_outage_burns_no_attempts(crowd: Crowd) -> None:
    open_breaker(crowd)
    crowd.sql("DELETE FROM jobs")
    [job] = crowd.add("a")
    for _ in range(7):
        let_probe_go(crowd)
        crowd.sql("UPDATE jobs SET not_before = NULL")
        assert attempt(crowd, EmbeddingUnavailable(), expect=job) == "pending"
    [[burnt]] = crowd.sql("SELECT attempt FROM jobs")
    assert burnt == 0


def test_a_file_that_is_refused_again_and_again_comes_to_an_end(crowd: Crowd) -> None:
    open_breaker(crowd)
    crowd.sql("DELETE FROM jobs")
    [job] = crowd.add("a")
    states = []
    for _ in range(3):
        let_probe_go(crowd)
        crowd.sql("UPDATE jobs SET not_before = NULL")
        states.append(attempt(crowd, EmbeddingRejected(), expect=job))
    assert states == ["pending", "pending", "failed"]


def test_a_probe_that_gets_through_lets_all_jobs_go_at_once(crowd: Crowd) -> None:
    open_breaker(crowd)
    held = crowd.add("a", 3)
    let_probe_go(crowd)
    assert attempt(crowd, EmbeddingUnavailable(), expect=None) == "pending"
    let_probe_go(crowd)
    assert attempt(crowd, None) == "completed"
    left = crowd.admit(9)
    assert len(left) >= 2
    assert set(held) & set(left)
    assert crowd.sql("SELECT 1 FROM jobs WHERE state = 'pending'") == []


def test_a_changed_provider_setting_sends_the_probe_at_once(crowd: Crowd) -> None:
    open_breaker(crowd)
    crowd.add("a", 3)
    crowd.set("rag_chunk_size", 300, "a")
    crowd.set("rag_embedding_api_key", "new", "b")
    assert crowd.admit(5) == []
    crowd.set("rag_embedding_api_key", "new", "a")
    assert len(crowd.admit(5)) == 1
