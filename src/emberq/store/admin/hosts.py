"""Host leases: a silent host's jobs are taken over."""

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
from emberq.store.jobs.transitions import in_state
from emberq.store.schema.admin_tables import Host
from emberq.store.schema.job_states import BACK_OFF, JobState
from emberq.store.schema.tables import Job

__all__ = [
    "BEAT_SECONDS",
    "LEASE_SECONDS",
    "HostConfig",
    "beat",
    "connection_name",
    "cut_off_silent_hosts",
    "has_jobs",
    "hosts_of_machine",
    "jobs_in_hand",
    "list_hosts",
    "orphaned_jobs",
    "release_host",
]

#: Seconds between two beats of a host: one row update per host, not per job.
BEAT_SECONDS = 2.0
#: Seconds a host may be silent before its jobs are taken over; four beats.
LEASE_SECONDS = 8.0
#: Seconds for which a transaction of a silent host has to have been open; a commit needs far less.
_FROZEN_SECONDS = 2.0
#: Only our own role's: others may not be ended, and are not our hosts' either.
_CUT_OFF = text("""
SELECT count(pg_terminate_backend(activity.pid, :patience))
FROM pg_stat_activity AS activity
JOIN hosts ON activity.application_name = concat(CAST(:prefix AS text), hosts.id)
WHERE hosts.lease_until < now() AND activity.usename = current_user
  AND activity.xact_start < now() - make_interval(secs => :frozen)
""")
#: Seconds after which a silent host is forgotten.
_FORGET_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class HostConfig:
    """What a host says about its configuration.

    Attributes:
        version: The newest one its main process has read.
        applied_versions: The one each worker slot applies.
        is_pushed: Whether it hears of changes at once.
        unreadable: What of the newest one it cannot read.
    """

    version: int = 0
    applied_versions: Sequence[int] = ()
    is_pushed: bool = False
    unreadable: Sequence[Unreadable] = ()


def beat(
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
    """Renew the host's lease, and make its row the first time.

    Args:
        connection: The transaction.
        host_id: The host.
        name: Its name, for people.
        pid: The process id of its main process.
        workers: Its worker slots.
        machine: What processes that see each other share, if it can be told.
        process: The identity of its main process on that machine.
        config: What it says about its configuration.
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
    """Return what PostgreSQL is to call the connections of a host's processes."""
    return f"emberq/{host_id}"


def cut_off_silent_hosts(connection: Connection) -> int:
    """End the transactions that silent hosts left open and return how many there were.

    A host that was frozen, unplugged or cut off in the middle of a transaction keeps its locks: on the
    job, which no reaper could take over, and on the file, on which the next attempt would wait. Its
    attempts are over in any case.
    """
    parameters = {"prefix": connection_name(""), "frozen": _FROZEN_SECONDS, "patience": 1000}
    return int(connection.execute(_CUT_OFF, parameters).scalar_one())


def release_host(connection: Connection, host_id: uuid.UUID) -> None:
    """Give the lease back on a normal stop, so that what is left is taken over at once."""
    connection.execute(delete(Host).where(Host.id == host_id))


def orphaned_jobs(connection: Connection) -> list[RowMapping]:
    """Return `id, fence` of the jobs whose host's lease is over, locked; other reapers skip them."""
    connection.execute(delete(Host).where(Host.lease_until < func.now() - timedelta(seconds=_FORGET_SECONDS)))
    alive = select(Host.id).where(Host.lease_until >= func.now())
    rows = connection.execute(
        select(Job.id, Job.fence)
        .where(in_state(*BACK_OFF.sources), or_(Job.host_id.is_(None), Job.host_id.not_in(alive)))
        .with_for_update(skip_locked=True)
    )
    return list(rows.mappings())


def jobs_in_hand(connection: Connection, host_id: uuid.UUID, worker: str | None = None) -> list[RowMapping]:
    """Return `id, fence` of the jobs that a host, or one worker of it, has in hand, locked.

    Left out are those that are locked already: the server may still be about what a dead process asked
    of it last.
    """
    rows = connection.execute(
        select(Job.id, Job.fence).where(_in_hand(host_id, worker)).with_for_update(skip_locked=True)
    )
    return list(rows.mappings())


def has_jobs(connection: Connection, host_id: uuid.UUID, worker: str | None = None) -> bool:
    """Tell whether a host, or one worker of it, has jobs in hand, locked ones among them."""
    found = select(Job.id).where(_in_hand(host_id, worker)).limit(1)
    return connection.execute(found).one_or_none() is not None


def _in_hand(host_id: uuid.UUID, worker: str | None) -> ColumnElement[bool]:
    of_host = and_(Job.state == JobState.PROCESSING, Job.host_id == host_id)
    return of_host if worker is None else and_(of_host, Job.worker == worker)


def hosts_of_machine(connection: Connection, machine: str) -> list[RowMapping]:
    """Return `id, pid, process` of the hosts on a machine."""
    rows = connection.execute(select(Host.id, Host.pid, Host.process).where(Host.machine == machine))
    return list(rows.mappings())


def list_hosts(connection: Connection) -> list[RowMapping]:
    """Return the hosts that beat within the last hour, those with a valid lease marked `alive`."""
    rows = connection.execute(
        select(*Host.__table__.c, (Host.lease_until >= func.now()).label("alive")).order_by(Host.started_at)
    )
    return list(rows.mappings())
