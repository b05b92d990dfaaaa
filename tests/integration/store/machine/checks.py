"""The rows of the store beside the ledger that says how they should be."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from sqlalchemy import Connection, select

from emberq.store.schema.tables import ChunkRow, FileRow, FileVersion, Job
from tests.integration.store.machine.ledger import MAX_ATTEMPTS, Paper, Work

__all__ = ["readers_see_one_version_whole", "rows_are_as_they_should_be"]


def rows_are_as_they_should_be(connection: Connection, jobs: Mapping[uuid.UUID, Work]) -> None:
    rows = connection.execute(select(Job.id, Job.state, Job.attempt, Job.attempts, Job.error_code)).all()
    assert {row.id: (row.state, row.attempt) for row in rows} == {
        job_id: (work.state, work.attempt) for job_id, work in jobs.items()
    }
    for row in rows:
        work = jobs[row.id]
        assert [reason["code"] for reason in row.attempts] == work.reasons
        assert not (work.told_cancelled and row.state == "completed")
        assert row.attempt <= MAX_ATTEMPTS
        assert (row.error_code is not None) >= (row.state in ("failed", "cancelled"))


def readers_see_one_version_whole(
    connection: Connection, files: Mapping[tuple[str, str], Paper], deleted: AbstractSet[uuid.UUID]
) -> None:
    found = connection.execute(
        select(
            ChunkRow.file_id, ChunkRow.tenant, ChunkRow.text, ChunkRow.version, FileRow.visible_version
        ).join(FileRow, FileRow.id == ChunkRow.file_id)
    ).all()
    texts = connection.execute(select(FileVersion.file_id).where(FileVersion.text.is_not(None)))
    expected = Counter(
        (paper.file_id, tenant, f"{paper.visible} of {paper.file_id}")
        for (tenant, _), paper in files.items()
        if paper.visible is not None
        for _ in range(2)
    )
    assert Counter((row.file_id, row.tenant, row.text) for row in found) == expected
    assert all(row.version == row.visible_version for row in found)
    assert Counter(texts.scalars()) == Counter({file_id for file_id, _, _ in expected})
    assert not deleted & {row.file_id for row in found}
