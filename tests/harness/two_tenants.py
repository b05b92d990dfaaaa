"""Two tenants with something in every table, and what of each no answer to the other may contain."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sqlalchemy import text

from emberq.errors import CorruptFile
from emberq.store.admin.api_keys import create_key
from emberq.store.admin.changes import change_settings
from emberq.store.admin.pauses import PauseScope, pause
from emberq.store.files.add import AddedFile, add_file
from emberq.store.files.blobs import StoredBlob
from emberq.store.files.collections import create_collection, get_collection
from emberq.store.files.commit import ChunkValues, commit_file
from emberq.store.files.embedding_cache import CachedVector, cache_vectors
from emberq.store.jobs.admission import admit_jobs
from emberq.store.jobs.claim import Attempt, claim_job
from emberq.store.jobs.finish import fail_attempt
from emberq.store.services import Services

__all__ = ["Tenant", "fill"]

#: The collection that each tenant has.
COMMON = "docs"


@dataclass
class Tenant:
    """A tenant, and what it has.

    Attributes:
        name: Its name; a mark that is in all its texts, names and messages.
        key: A key that may read and write.
        own_collection: A collection whose name is the tenant's own.
        files: Its files.
        jobs: Its jobs.
        secrets: What no answer to another tenant contains, unless the request did.
    """

    name: str
    key: str = ""
    own_collection: str = ""
    files: list[uuid.UUID] = field(default_factory=list)
    jobs: list[uuid.UUID] = field(default_factory=list)
    secrets: set[str] = field(default_factory=set)


def fill(services: Services, name: str, *, documents: int) -> Tenant:
    """Give a tenant documents that are searchable, one that failed, one that waits, and a row of all else."""
    tenant = Tenant(name, own_collection=f"only-{name}")
    with services.database.tenant_transaction(name) as connection:
        for collection in (COMMON, tenant.own_collection):
            create_collection(
                connection, name, collection, embedding_model="all-MiniLM-L6-v2", metadata={"of": name}
            )
        tenant.key = create_key(connection, name=f"key of {name}", tenant=name, scopes=["read", "write"])
        one = CachedVector(np.ones(384, dtype=np.float32), 1)
        cache_vectors(connection, {(name, name.encode()): one})
        connection.execute(
            text("INSERT INTO breakers (tenant, failures, error_code, failed_at) VALUES (:t, 1, 'x', now())"),
            {"t": name},
        )
    with services.database.system_transaction() as connection:
        change_settings(connection, services.sealer, {"rag_top_k": 7}, tenant=name, changed_by=name)
    for number in range(documents):
        _commit(services, tenant, _add(services, tenant, COMMON, number))
    _fail(services, tenant, _add(services, tenant, tenant.own_collection, documents))
    _add(services, tenant, COMMON, documents + 1)
    with services.database.tenant_transaction(name) as connection:
        pause(connection, PauseScope.COLLECTION, name, tenant.own_collection)
    tenant.secrets = _secrets(services, tenant)
    return tenant


def rows(services: Services, tenant: Tenant) -> dict[str, list[str]]:
    """Return all rows of a tenant, by table, without the columns that every use writes."""
    with services.database.system_transaction() as connection:
        tables = connection.execute(
            text("SELECT relname FROM pg_class WHERE relrowsecurity AND relkind = 'r' ORDER BY relname")
        ).scalars()
        return {
            table: sorted(
                connection.execute(
                    text(
                        f"SELECT CAST(to_jsonb(t) - 'last_used_at' AS text) FROM {table} t"
                        " WHERE tenant IN (:t)"
                    ),
                    {"t": tenant.name},
                ).scalars()
            )
            for table in tables.all()
        }


def _add(services: Services, tenant: Tenant, collection: str, number: int) -> AddedFile:
    name = tenant.name
    # Equal bytes of the tenants are one blob.
    digest = uuid.uuid5(uuid.NAMESPACE_DNS, str(number)).hex * 2
    with services.database.tenant_transaction(name) as connection:
        added = add_file(
            connection,
            collection=get_collection(connection, name, collection),
            name=f"{name}-{number}.txt",
            blob=StoredBlob(digest, 10),
            external_id=f"{name}/{number}",
            metadata={"of": name},
            idempotency_key=f"{name}-{number}",
            max_attempts=1,
            max_pending=100,
        )
    with services.blobs.writer() as writer:
        writer.write(f"The words of {name}.".encode())
        writer.seal()
        path = services.blobs.path_of(digest)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"The same bytes.")
    tenant.files.append(added.file_id)
    tenant.jobs.append(added.job_id)
    return added


def _claim(services: Services, added: AddedFile) -> Attempt:
    with services.database.system_transaction() as connection:
        tickets = dict(admit_jobs(connection, limit=10))
        attempt = claim_job(connection, added.job_id, ticket=tickets[added.job_id], worker="w", host_id=None)
    assert attempt is not None
    return attempt


def _commit(services: Services, tenant: Tenant, added: AddedFile) -> None:
    attempt = _claim(services, added)
    words = f"The words of {tenant.name}, searchable by anyone who may."
    chunk = ChunkValues(
        0, words, 0, len(words), None, tenant.name, tenant.name.encode(), np.ones(384, np.float32)
    )
    with services.database.tenant_transaction(tenant.name) as connection:
        commit_file(
            connection,
            attempt,
            text=words,
            media_type="text/plain",
            page_count=None,
            chunks=[chunk],
            timings={"embedding": 1.0},
        )


def _fail(services: Services, tenant: Tenant, added: AddedFile) -> None:
    attempt = _claim(services, added)
    with services.database.tenant_transaction(tenant.name) as connection:
        error = CorruptFile(f"The file of {tenant.name} is damaged.")
        fail_attempt(connection, attempt.job_id, error, fence=attempt.fence, retry_delay_seconds=0)


def _secrets(services: Services, tenant: Tenant) -> set[str]:
    ids = {
        value
        for table in rows(services, tenant).values()
        for row in table
        for name, value in json.loads(row).items()
        if name == "id" or name.endswith("_id") or name == "prefix"
    }
    found: set[Any] = {tenant.name, *ids}
    return {str(one) for one in found if isinstance(one, str) and len(one) > 6}
