from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emberq.openwebui.sidecar.attempts import Attempts
from emberq.openwebui.sidecar.policy import Policy, decide, is_duplicate, is_outage
from emberq.openwebui.sidecar.records import Status, StoredFile

NOW = 1_000_000.0
POLICY = Policy(stuck_after=900, max_attempts=3)
AWAY = "Error loading document: 503 Service Unavailable"


def a_file(status: Status, *, age: float = 0, error: str = "") -> StoredFile:
    return StoredFile("f", "u", "a.pdf", status, error, updated_at=int(NOW - age))


@pytest.mark.parametrize(
    "error",
    [
        AWAY,
        "Error loading document: 429 too many requests",
        "Error connecting to endpoint: HTTPConnectionPool(host='emberq', port=8040): Max retries exceeded",
        "Cannot connect to host 127.0.0.1:8040 ssl:default [Connect call failed ('127.0.0.1', 8040)]",
        "503, message='Service Unavailable', url='http://127.0.0.1:8040/v1/embeddings'",
        "Server disconnected",
        "('Connection aborted.', RemoteDisconnected('Remote end closed connection without response'))",
        "Error calling Docling: Service Unavailable",
        "[Errno None] Can not write request body for http://127.0.0.1:8040/v1/embeddings",
        "Cannot write to closing transport",
        "Response payload is not completed: <TransferEncodingError: 400>",
        "Timeout on reading data from socket",
        "[Errno 32] Broken pipe",
        "('Connection broken: IncompleteRead(10 bytes read)')",
    ],
)
def test_a_broken_connection_is_told_by_its_words(error: str) -> None:
    assert is_outage(error)
    assert decide(a_file("failed", error=error), Attempts(), POLICY, NOW).action == "reprocess"


@pytest.mark.parametrize(
    "error",
    [
        "",
        "Error loading document: 422 The file is protected by a password.",
        "Error loading document: 500 internal error",
        "422, message='Unprocessable Entity', url='http://127.0.0.1:8040/v1/embeddings'",
        "Error loading document: 422 The chapter on the status 503 cannot be read.",
        "Duplicate content detected. Please provide unique content to proceed.",
        "The content provided is empty. Please ensure that there is text or data present before proceeding.",
    ],
)
def test_a_reason_of_the_file_s_own_is_none(error: str) -> None:
    assert not is_outage(error)
    assert decide(a_file("failed", error=error), Attempts(), POLICY, NOW).action == "none"


def test_a_duplicate_is_told_by_its_words() -> None:
    assert is_duplicate("400: Duplicate content detected. Please provide unique content to proceed.")
    assert not is_duplicate(AWAY)


@pytest.mark.parametrize("status", ["pending", "processing"])
def test_a_file_is_stuck_after_so_long_without_a_change(status: Status) -> None:
    young = decide(a_file(status, age=899), Attempts(), POLICY, NOW)
    assert (young.action, young.at) == ("leave_alone", NOW + 1)
    assert decide(a_file(status, age=900), Attempts(), POLICY, NOW).action == "reprocess"


def test_an_attempt_without_a_recorded_end_counts_as_running() -> None:
    stuck = a_file("processing", age=5000)
    begun = Attempts(count=1, started_at=NOW - 100)
    assert decide(stuck, begun, POLICY, NOW).action == "leave_alone"
    assert decide(stuck, begun, POLICY, NOW + 800).action == "reprocess"
    assert decide(stuck, replace(begun, ended_at=NOW - 50), POLICY, NOW).action == "reprocess"


def test_pauses_double() -> None:
    file = a_file("failed", error=AWAY)
    pauses = []
    for count in (1, 2):
        decision = decide(file, Attempts(count, NOW - 10, ended_at=NOW), POLICY, NOW)
        assert decision.action == "wait"
        pauses.append(decision.at - NOW)
    assert pauses[1] == 2 * pauses[0]


def test_it_gives_up_with_the_latest_reason() -> None:
    spent = Attempts(count=3, started_at=1, ended_at=2, error="502 from the loader")
    decision = decide(a_file("processing", age=5000), spent, POLICY, NOW)
    assert decision.action == "give_up"
    assert "502 from the loader" in decision.reason
    assert "3 attempts" in decision.reason


def test_a_processed_file_without_its_link_is_linked() -> None:
    done = a_file("completed")
    assert decide(done, Attempts(), POLICY, NOW).action == "none"
    assert (
        decide(done, Attempts(1, NOW - 1000, ended_at=NOW - 950, knowledge_id="k"), POLICY, NOW).action
        == "link"
    )
    assert decide(done, Attempts(1, NOW - 10, knowledge_id="k"), POLICY, NOW).action == "leave_alone"


files = st.builds(
    StoredFile,
    id=st.just("f"),
    user_id=st.just("u"),
    name=st.just("a.pdf"),
    status=st.sampled_from(["none", "pending", "processing", "completed", "failed"]),
    error=st.sampled_from(["", AWAY, "Duplicate content detected."]),
    updated_at=st.integers(0, int(2 * NOW)),
)
attempts = st.builds(
    Attempts,
    count=st.integers(0, 5),
    started_at=st.floats(0, 2 * NOW),
    ended_at=st.floats(0, 2 * NOW),
    error=st.sampled_from(["", AWAY]),
    knowledge_id=st.sampled_from(["", "k"]),
)


@given(files, attempts)
def test_nothing_is_begun_that_may_be_at_work_or_was_begun_too_often(
    file: StoredFile, past: Attempts
) -> None:
    decision = decide(file, past, POLICY, NOW)
    if decision.action not in ("reprocess", "link"):
        return
    assert past.count < POLICY.max_attempts
    assert not (past.is_open and NOW - past.started_at < POLICY.stuck_after)
    assert not (file.status in ("pending", "processing") and NOW - file.updated_at < POLICY.stuck_after)
    assert decision.reason


@given(files, attempts)
def test_every_unfinished_file_is_acted_on_sooner_or_later(file: StoredFile, past: Attempts) -> None:
    decision = decide(file, past, POLICY, NOW)
    if decision.action in ("leave_alone", "wait"):
        assert decision.at > NOW
        assert decide(file, past, POLICY, decision.at).action in ("reprocess", "link", "give_up", "wait")
