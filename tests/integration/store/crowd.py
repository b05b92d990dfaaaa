"""Many tenants with many jobs, written straight into the tables: what admission meets in a flood."""

from __future__ import annotations

import heapq
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, text

from emberq.config.runtime import RuntimeSettings
from emberq.store.admin.changes import change_settings
from emberq.store.admin.secrets import Sealer, load_sealer
from emberq.store.jobs.admission import admit_jobs
from emberq.store.jobs.queries import get_job, list_jobs
from emberq.store.services import Services

_ADD_FILES = text("""
INSERT INTO files (id, tenant, collection_id, external_id, name)
SELECT gen_random_uuid(), tenant, id, gen_random_uuid()::text, 'a.txt'
FROM collections CROSS JOIN generate_series(1, :count)
WHERE tenant = :tenant AND name = :collection
RETURNING id
""")
_ADD_JOBS = text("""
INSERT INTO jobs (id, tenant, collection_id, file_id, version, max_attempts, priority, created_at)
SELECT gen_random_uuid(), tenant, collection_id, files.id, 1, 3, :priority, clock_timestamp()
FROM files WHERE id = ANY(:files)
RETURNING id
""")


@dataclass
class Crowd:
    """Tenants and their jobs in one database."""

    services: Services
    names: dict[uuid.UUID, str] = field(default_factory=dict)

    def put(self, statement: str, **values: object) -> None:
        """Run SQL that puts jobs into a state without the way there, which the database else refuses."""
        with self.services.database.system_transaction() as connection:
            connection.execute(text("ALTER TABLE jobs DISABLE TRIGGER jobs_transitions"))
            connection.execute(text(statement), values)
            connection.execute(text("ALTER TABLE jobs ENABLE TRIGGER jobs_transitions"))

    def sql(self, statement: str, **parameters: Any) -> list[Any]:
        with self.services.database.system_transaction() as connection:
            result = connection.execute(text(statement), parameters)
            return list(result) if result.returns_rows else []

    def lease(self, workers: int, *, seconds: float = 3600, queue_error: str | None = None) -> None:
        self.sql(
            "INSERT INTO hosts (id, name, pid, workers, lease_until, queue_error)"
            " VALUES (gen_random_uuid(), 'host', 1, :workers, now() + make_interval(secs => :seconds),"
            " :queue_error)",
            workers=workers,
            seconds=seconds,
            queue_error=queue_error,
        )

    def add(
        self, tenant: str, count: int = 1, *, collection: str = "docs", priority: int = 100
    ) -> list[uuid.UUID]:
        with self.services.database.system_transaction() as connection:
            connection.execute(
                text(
                    "INSERT INTO collections (id, tenant, name, embedding_model)"
                    " VALUES (gen_random_uuid(), :tenant, :name, 'm') ON CONFLICT DO NOTHING"
                ),
                {"tenant": tenant, "name": collection},
            )
            where = {"tenant": tenant, "collection": collection}
            files = connection.execute(_ADD_FILES, {"count": count, **where}).scalars().all()
            jobs = connection.execute(_ADD_JOBS, {"files": list(files), "priority": priority}).scalars().all()
        self.names.update(dict.fromkeys(jobs, tenant))
        return list(jobs)

    def set(self, key: str, value: Any, tenant: str = "") -> None:
        assert key in RuntimeSettings.model_fields
        with self.services.database.system_transaction() as connection:
            change_settings(connection, self.sealer, {key: value}, tenant=tenant, changed_by="test")

    @property
    def sealer(self) -> Sealer:
        return load_sealer(None, self.services.data_dir)

    def admit(self, limit: int | None = None) -> list[uuid.UUID]:
        with self.services.database.system_transaction() as connection:
            return [job for job, _ in admit_jobs(connection, limit=limit)]

    def move(self, jobs: Sequence[uuid.UUID], state: str) -> None:
        self.put(
            "UPDATE jobs SET state = :state, started_at = coalesce(started_at, now()),"
            " ended_at = CASE WHEN :state = 'completed' THEN now() END WHERE id = ANY(:jobs)",
            state=state,
            jobs=list(jobs),
        )

    def admit_and_finish_ids(self, limit: int) -> list[uuid.UUID]:
        """Admit, end those jobs at once, and return them in order."""
        admitted = self.admit(limit)
        self.move(admitted, "completed")
        return admitted

    def admit_and_finish(self, limit: int) -> list[str]:
        """Do the same and return their tenants."""
        return [self.names[job] for job in self.admit_and_finish_ids(limit)]

    def reason(self, job: uuid.UUID) -> str | None:
        with self.services.database.system_transaction() as connection:
            reason: str | None = get_job(connection, self.names[job], job)["waiting_reason"]
        return reason

    def listed(self, tenant: str, **filters: Any) -> list[dict[str, Any]]:
        with self.services.database.system_transaction() as connection:
            return list_jobs(connection, tenant, limit=500, **filters)


@dataclass
class Pool:
    """Worker slots on a virtual clock: only time is simulated, every choice is made by the real SQL."""

    crowd: Crowd
    slots: int
    length: float = 1.0
    now: float = 0.0
    redis: deque[uuid.UUID] = field(default_factory=deque)
    arrived: dict[uuid.UUID, float] = field(default_factory=dict)
    waits: dict[str, list[float]] = field(default_factory=dict)
    _running: list[tuple[float, int, uuid.UUID]] = field(default_factory=list)
    _started: int = 0

    def run(self, arrivals: Sequence[tuple[float, str]]) -> None:
        """Let jobs arrive at their times and run until the last of them has started."""
        coming = deque(sorted(arrivals))
        expected = len(coming)
        while coming or sum(map(len, self.waits.values())) < expected:
            arrival = coming[0][0] if coming else float("inf")
            end = self._running[0][0] if self._running else float("inf")
            self.now = min(arrival, end)
            if arrival <= end:
                _, tenant = coming.popleft()
                self.arrived[self.crowd.add(tenant)[0]] = arrival
            else:
                self.crowd.move([heapq.heappop(self._running)[2]], "completed")
            self._start()

    def _start(self) -> None:
        while True:
            self.redis.extend(self.crowd.admit())
            if not self.redis or len(self._running) == self.slots:
                return
            job = self.redis.popleft()
            self.crowd.move([job], "processing")
            self._started += 1
            # The first jobs have different lengths, so that slots do not end all at the same moment.
            length = self.length * (self._started / self.slots if self._started < self.slots else 1)
            heapq.heappush(self._running, (self.now + length, self._started, job))
            if job in self.arrived:
                wait = self.now - self.arrived[job]
                self.waits.setdefault(self.crowd.names[job], []).append(wait)


def explain(connection: Connection, statement: str, parameters: dict[str, object]) -> list[dict[str, Any]]:
    """Run a statement under EXPLAIN ANALYZE and return all nodes of its plan."""
    [[plan]] = connection.execute(text(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}"), parameters)
    nodes, pending = [], [plan[0]["Plan"]]
    while pending:
        node = pending.pop()
        nodes.append(node)
        pending += node.get("Plans", [])
    return nodes
