"""Host leases: a host renews its lease; after the lease has expired, its attempts are ended by others."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, delete, func, or_, select, text
from sqlalchemy.dialects.postgresql import insert

from emberq.config.snapshot import Unreadable
from emberq.store.jobs.fence import in_state
from emberq.store.schema.admin_tables import Host
from emberq.store.schema.job_states import BACK_OFF, JobState
from emberq.store.schema.tables import Job

#: Seconds between two renewals of a lease: one row update per host, not per job.
LEASE_RENEWAL_SECONDS = 2.0
#: Seconds for which a lease is valid; four renewals.
LEASE_SECONDS = 8.0
#: The least age in seconds of a transaction that is ended with an expired host; a commit needs far less.
_STUCK_SECONDS = 2.0
#: Milliseconds to wait for a connection to end.
_TERMINATE_MILLISECONDS = 1000
#: Only connections of our own role, or of a role that it may act as: others may not be ended.
_END_TRANSACTIONS = text("""
SELECT count(pg_terminate_backend(activity.pid, :wait))
FROM pg_stat_activity AS activity
JOIN hosts ON activity.application_name = concat(CAST(:prefix AS text), hosts.id)
WHERE hosts.lease_until < now() AND pg_has_role(activity.usesysid, 'USAGE')
  AND activity.xact_start < now() - make_interval(secs => :stuck)
""")
#: Seconds after which the row of an expired host is deleted.
_DELETE_AFTER_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class HostConfig:
    """The configuration of a host, as it reports it.

    Attributes:
        version: The newest version that its main process has read.
        applied_versions: The version that each worker slot applies.
        is_pushed: Whether changes are pushed to it.
        unreadable: The settings of the newest version that it cannot read.
        queue_error: What keeps its workers from taking tickets.
    """

    version: int = 0
    applied_versions: Sequence[int] = ()
    is_pushed: bool = False
    unreadable: Sequence[Unreadable] = ()
    queue_error: str | None = None


def renew_lease(
    connection: Connection,
    host_id: uuid.UUID,
    *,
    name: str,
    pid: int,
    workers: int,
    machine: str = "",
    process: str = "",
    config: HostConfig | None = None,
) -> None:
    """Renew a host's lease; the first time, insert its row.

    Args:
        connection: The transaction.
        host_id: The host.
        name: Its name, for people.
        pid: The process id of its main process.
        workers: The number of its worker slots.
        machine: The machine, if it is known; processes on the same one see each other.
        process: The identity of its main process on that machine.
        config: Its configuration.
    """
    now: Any = func.now()
    config = config or HostConfig()
    unreadable = [dataclasses.asdict(one) for one in config.unreadable]
    values = {
        "id": host_id,
        "name": name,
        "pid": pid,
        "machine": machine,
        "process": process,
        "workers": workers,
        "config_version": config.version,
        "applied_versions": list(config.applied_versions),
        "config_push": config.is_pushed,
        "queue_error": config.queue_error,
        "config_unreadable": {"items": unreadable} if unreadable else None,
        "beat_at": now,
        "lease_until": now + timedelta(seconds=LEASE_SECONDS),
    }
    statement = insert(Host).values(values)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[Host.id],
            set_={key: statement.excluded[key] for key in values if key != "id"},
        )
    )


def connection_name(host_id: uuid.UUID | str) -> str:
    """Return the `application_name` of the connections of a host's processes."""
    return f"emberq/{host_id}"


def end_transactions_of_expired_hosts(connection: Connection) -> int:
    """End the open transactions of hosts whose lease has expired, and return how many there were.

    A host that was frozen, unplugged or cut off in a transaction keeps its locks: on the job, which no
    reaper could end, and on the file, for which the next attempt would wait. Its attempts are over in any
    case.
    """
    parameters = {
        "prefix": connection_name(""),
        "stuck": _STUCK_SECONDS,
        "wait": _TERMINATE_MILLISECONDS,
    }
    return int(connection.execute(_END_TRANSACTIONS, parameters).scalar_one())


def release_lease(connection: Connection, host_id: uuid.UUID) -> None:
    """Delete a host's lease at a normal stop, so that its last attempts are ended at once."""
    connection.execute(delete(Host).where(Host.id == host_id))


def jobs_of_expired_hosts(connection: Connection) -> list[RowMapping]:
    """Return `id, fence` of the jobs whose host's lease has expired, locked; other reapers skip them."""
    connection.execute(
        delete(Host).where(Host.lease_until < func.now() - timedelta(seconds=_DELETE_AFTER_SECONDS))
    )
    alive = select(Host.id).where(Host.lease_until >= func.now())
    rows = connection.execute(
        select(Job.id, Job.fence)
        .where(in_state(*BACK_OFF.sources), or_(Job.host_id.is_(None), Job.host_id.not_in(alive)))
        .with_for_update(skip_locked=True)
    )
    return list(rows.mappings())


def jobs_of_host(connection: Connection, host_id: uuid.UUID, worker: str | None = None) -> list[RowMapping]:
    """Return `id, fence` of the jobs that a host, or one worker of it, processes, locked.

    Jobs that are locked already are left out: PostgreSQL may still execute the last statement of a dead
    process.
    """
    rows = connection.execute(
        select(Job.id, Job.fence).where(_processed_by(host_id, worker)).with_for_update(skip_locked=True)
    )
    return list(rows.mappings())


def has_jobs(connection: Connection, host_id: uuid.UUID, worker: str | None = None) -> bool:
    """Tell whether a host, or one worker of it, processes jobs, locked ones included."""
    found = select(Job.id).where(_processed_by(host_id, worker)).limit(1)
    return connection.execute(found).one_or_none() is not None


def _processed_by(host_id: uuid.UUID, worker: str | None) -> ColumnElement[bool]:
    of_host = and_(Job.state == JobState.PROCESSING, Job.host_id == host_id)
    return of_host if worker is None else and_(of_host, Job.worker == worker)


def hosts_of_machine(connection: Connection, machine: str) -> list[RowMapping]:
    """Return `id, pid, process` of the hosts on a machine."""
    rows = connection.execute(select(Host.id, Host.pid, Host.process).where(Host.machine == machine))
    return list(rows.mappings())


def list_hosts(connection: Connection) -> list[RowMapping]:
    """Return the hosts whose lease was renewed within the last hour; a valid lease is marked `alive`."""
    rows = connection.execute(
        select(*Host.__table__.c, (Host.lease_until >= func.now()).label("alive")).order_by(Host.started_at)
    )
    return list(rows.mappings())
