"""How long one admission takes among many waiting jobs.

python bench/admission.py [JOBS] [TENANTS]
"""

from __future__ import annotations

import sys
import tempfile
import time
from statistics import median

from sqlalchemy import text

from emberq.embedded import Engines
from emberq.store.database import Database
from emberq.store.jobs.admission import ADMIT_STATEMENT, admission_parameters, admit_jobs
from emberq.store.migrate import migrate

TICKETS = 8
FILL = """
INSERT INTO collections (id, tenant, name, embedding_model)
SELECT gen_random_uuid(), 'tenant' || n, 'docs', 'm' FROM generate_series(1, :tenants) AS n;
INSERT INTO files (id, tenant, collection_id, external_id, name)
SELECT gen_random_uuid(), tenant, id, n::text, 'a.txt'
FROM collections CROSS JOIN generate_series(1, :jobs / :tenants) AS n;
INSERT INTO jobs (id, tenant, collection_id, file_id, version, max_attempts, priority)
SELECT gen_random_uuid(), tenant, collection_id, id, 1, 3, 100 + 100 * (random() < 0.5)::int FROM files;
INSERT INTO hosts (id, name, pid, workers, lease_until)
VALUES (gen_random_uuid(), 'host', 1, :tickets, now() + interval '1 hour');
ANALYZE
"""
FINISH = text("UPDATE jobs SET state = 'cancelled' WHERE state = 'queued'")


def main(jobs: int = 100_000, tenants: int = 10) -> None:
    with Engines(tempfile.mkdtemp(), database_url=None, redis_url=None) as engines:
        database = Database(engines.database_url)
        migrate(database)
        for statement in FILL.split(";"):
            with database.system_transaction() as connection:
                connection.execute(text(statement), {"jobs": jobs, "tenants": tenants, "tickets": TICKETS})
        whole, planned, executed = [], [], []
        explain = text(f"EXPLAIN (ANALYZE, FORMAT JSON) {ADMIT_STATEMENT.text}")
        for _ in range(20):
            started = time.perf_counter()
            with database.system_transaction() as connection:
                admitted = admit_jobs(connection)
            whole.append((time.perf_counter() - started) * 1000)
            assert len(admitted) == TICKETS
            with database.system_transaction() as connection:
                [[plan]] = connection.execute(explain, admission_parameters(TICKETS))
                planned.append(plan[0]["Planning Time"])
                executed.append(plan[0]["Execution Time"])
                connection.execute(FINISH)
        database.close()
    print(f"{jobs} waiting jobs of {tenants} tenants, {TICKETS} admitted at once, medians of 20:")
    print(f"statement {median(executed):.1f} ms (and {median(planned):.1f} ms planning)")
    print(f"whole transaction as a client sees it {median(whole):.1f} ms")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
    sys.stdout.flush()
