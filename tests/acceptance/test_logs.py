"""What a file's log records carry, from the process that ran it."""

from __future__ import annotations

import httpx

from tests.harness.stack import Stack

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def test_every_record_of_a_file_names_job_tenant_attempt_and_trace_and_each_stage(
    stack: Stack, client: httpx.Client
) -> None:
    uploaded = client.post(
        "/api/v1/collections/docs/files",
        files={"file": ("traced.txt", b"A text about nightjars and their calls.")},
        headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"},
    ).json()
    job = uploaded["job"]["id"]
    assert stack.wait(client, job)["state"] == "completed"
    stack.wait_for_event(event="job_completed", job=job)
    records = [record for record in stack.events() if record.get("job") == job and "fence" in record]
    assert {"job_started", "stage_started", "job_completed"} <= {record["event"] for record in records}
    for record in records:
        assert (record["tenant"], record["attempt"], record["trace"]) == ("default", 1, TRACE)
        assert record["file"] == "traced.txt"
    stages = [record["stage"] for record in records if record["event"] == "stage_started"]
    assert stages == ["extracting", "splitting", "embedding", "storing"]
    assert stack.key not in stack.log.read_text()
