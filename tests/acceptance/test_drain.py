"""A worker that has to leave in the middle of a document takes no attempt of it along."""

from __future__ import annotations

from collections.abc import Callable

from tests.acceptance.test_kills import long_text
from tests.harness.stack import Stack


def test_a_document_cut_off_by_a_stop_goes_on_after_it_with_all_its_attempts(
    own_stack: Callable[..., Stack],
) -> None:
    stack = own_stack(workers=1)
    with stack.http() as client:
        client.post("/api/v1/collections", json={"name": "docs"}).raise_for_status()
        for name, value in {"rag_chunk_overlap": 0, "rag_chunk_size": 24, "shutdown_grace": 1}.items():
            client.put(f"/api/v1/settings/{name}", json={"value": value}).raise_for_status()
        uploaded = stack.upload(client, "notes.txt", long_text(1500)).json()
        stack.wait_for_event(event="stage_started", stage="embedding", attempt=1)
    assert stack.stop() == 0
    assert any(record.get("event") == "attempt_released" for record in stack.events())
    stack.start()
    with stack.http() as client:
        job = stack.wait(client, uploaded["job"]["id"])
    assert (job["state"], job["attempt"], job["error"]) == ("completed", 1, None)
