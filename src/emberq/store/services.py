"""The services of a process of the document service: database, Redis, blobs and secrets."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from redis import Redis

from emberq.config.current import configure_worker_config
from emberq.config.environment import Environment
from emberq.config.snapshot import Snapshot
from emberq.redis_pools import get_redis_pool
from emberq.retry.operation import retry_db_operation
from emberq.store.admin.hosts import connection_name
from emberq.store.admin.secrets import Sealer, load_sealer
from emberq.store.admin.settings import load_snapshot
from emberq.store.database import Database
from emberq.store.files.blobs import BlobStore, open_blob_store
from emberq.system.forks import after_fork
from emberq.system.kept_open import keep_open
from emberq.telemetry import metrics


@dataclass(frozen=True, slots=True)
class Services:
    """The services of one process; each opens its connections on first use.

    Attributes:
        database: PostgreSQL.
        redis_url: Redis or Valkey.
        blobs: The bytes of files.
        sealer: Reads and writes secret settings.
        data_dir: The data directory.
        environment: The process settings that they were made from.
    """

    database: Database
    redis_url: str
    blobs: BlobStore
    sealer: Sealer
    data_dir: Path
    environment: Environment

    def redis(self) -> Redis:
        """Return a Redis client of the control plane; it raises within seconds if Redis does not answer."""
        return Redis(connection_pool=get_redis_pool("control", self.redis_url))

    def worker_redis(self) -> Redis:
        """Return the Redis client of an RQ worker; it waits for jobs without a time limit."""
        return Redis(connection_pool=get_redis_pool("worker", self.redis_url))

    @retry_db_operation(idempotent=True)
    def load_snapshot(self, version: int | None = None) -> Snapshot:
        """Read the run-time settings of a version, by default the newest, with retries.

        Raises:
            DatabaseUnavailable: If PostgreSQL does not answer in time.
        """
        return self.read_snapshot(version)

    def read_snapshot(self, version: int | None = None) -> Snapshot:
        """Read the run-time settings of a version, by default the newest, without retries.

        Raises:
            DatabaseUnavailable: If PostgreSQL does not answer.
        """
        with self.database.system_transaction() as connection:
            return load_snapshot(connection, self.sealer, version)


_services: Services | None = None


def configure_services(environment: Environment, *, database_url: str, redis_url: str) -> Services:
    """Configure the services of this process and of the children that it forks.

    Args:
        environment: The process's settings.
        database_url: PostgreSQL, as SQLAlchemy writes it.
        redis_url: Redis or Valkey.

    Raises:
        SettingInvalid: If the blob URL or the secret key cannot be used.
    """
    global _services  # noqa: PLW0603 - one set of services per process is the point
    secret_key = environment.secret_key
    host_id = os.environ.get("EMBERQ_HOST_ID")
    _services = Services(
        database=Database(
            database_url,
            pool_size=environment.db_pool_size,
            application_name=connection_name(host_id) if host_id else "emberq",
        ),
        redis_url=redis_url,
        blobs=open_blob_store(environment.blob_url, environment.data_dir),
        sealer=load_sealer(secret_key.get_secret_value() if secret_key else None, environment.data_dir),
        data_dir=environment.data_dir,
        environment=environment,
    )
    configure_worker_config(_services.load_snapshot, reload=_services.read_snapshot)
    return _services


def get_services() -> Services:
    """Return the services of this process.

    Raises:
        RuntimeError: If `configure_services` was not called.
    """
    if _services is None:
        msg = "The services are not configured: call configure_services() first."
        raise RuntimeError(msg)
    return _services


@keep_open
def _pooled_connections() -> object:
    return _services.database.engine if _services is not None else None


@metrics.sampler
def _sample_connections() -> None:
    if _services is not None:
        idle, in_use = _services.database.count_connections()
        metrics.set_pool_connections("db", idle=idle, in_use=in_use)


@after_fork
def _forget_connections() -> None:
    if _services is not None:
        _services.database.after_fork()
