"""Documents through horses that cannot be forked: `emberq up` with a resource of the user's own."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tests.harness.paths import python_path
from tests.harness.stack import Stack


def test_documents_are_processed_by_a_spawned_horse_and_again_after_it_was_killed(
    own_stack: Callable[..., Stack], tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    environment = {
        "EMBERQ_PRELOAD": "tests.jobs.spawn",
        "SPAWN_JOBS_NOTES": str(notes),
        "PYTHONPATH": python_path(),
    }
    stack = own_stack(environment=environment)

    def engines() -> list[int]:
        lines = notes.read_text().splitlines()
        return [int(line.split()[1]) for line in lines if line.startswith("engine ")]

    with stack.http() as client:
        client.post("/api/v1/collections", json={"name": "docs"}).raise_for_status()
        for number in range(5):
            text = f"Pelican number {number} carries fish in a pouch.".encode()
            job = stack.upload(client, f"{number}.txt", text).json()["job"]
            assert stack.wait(client, job["id"])["state"] == "completed"
        [first] = engines()
        os.kill(first, 9)
        job = stack.upload(client, "last.txt", b"Herons stand in the reeds.").json()["job"]
        assert stack.wait(client, job["id"])["state"] == "completed"
        answer = client.post("/api/v1/collections/docs/search", json={"query": "herons in reeds"}).json()
    assert "Herons" in answer["results"][0]["text"]
    assert len(engines()) == 2
    assert "job_leaked" not in stack.log.read_text()
    # The secret key and the database's URL travel over a socket, not where everybody can look.
    command = Path(f"/proc/{engines()[1]}/cmdline").read_bytes()
    assert b"postgres" not in command
