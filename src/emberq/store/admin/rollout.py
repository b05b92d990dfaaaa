"""The rollout of a configuration version: how many workers of each host apply it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from emberq.config.runtime import Applies, settings_that_apply
from emberq.config.snapshot import Unreadable
from emberq.store.admin.hosts import list_hosts
from emberq.store.schema.admin_tables import SettingChange
from emberq.store.schema.job_states import JobState
from emberq.store.schema.tables import Job


@dataclass(frozen=True, slots=True)
class HostApplied:
    """The rollout of a version on a live host.

    Attributes:
        host_id: The host.
        name: Its name.
        workers: Number of its worker slots.
        applied: Number of worker slots that apply the version and run no job by an older one.
        version: The newest version that the host has read.
        is_pushed: Whether changes are pushed to it.
        unreadable: The settings of the newest version that it cannot read.
    """

    host_id: uuid.UUID
    name: str
    workers: int
    applied: int
    version: int
    is_pushed: bool
    unreadable: tuple[Unreadable, ...]


def applied_by_hosts(connection: Connection, version: int) -> list[HostApplied]:
    """Return for each live host how many of its workers apply a version.

    A worker does not apply it while it runs a job that is pinned to older settings, unless no later change
    concerns jobs; nor while its slot waits for a new generation; nor on a host that cannot read the version.
    """
    busy = _workers_in_older_jobs(connection, version)
    return [
        HostApplied(
            host_id=host["id"],
            name=host["name"],
            workers=host["workers"],
            applied=min(
                sum(applied >= version for applied in host["applied_versions"]),
                max(0, host["workers"] - busy.get(host["id"], 0)),
            ),
            version=host["config_version"],
            is_pushed=host["config_push"],
            unreadable=tuple(Unreadable(**one) for one in (host["config_unreadable"] or {}).get("items", ())),
        )
        for host in list_hosts(connection)
        if host["alive"]
    ]


def _workers_in_older_jobs(connection: Connection, version: int) -> dict[uuid.UUID, int]:
    """Count by host the workers whose running job is pinned to settings that have changed since."""
    changed_for_jobs = (
        select(func.max(SettingChange.version))
        .where(
            SettingChange.version <= version,
            SettingChange.key.not_in(settings_that_apply(Applies.NOW)),
        )
        .scalar_subquery()
    )
    rows = connection.execute(
        select(Job.host_id, func.count(func.distinct(Job.worker)).label("workers"))
        .where(
            Job.state == JobState.PROCESSING,
            Job.host_id.is_not(None),
            Job.config_version < changed_for_jobs,
        )
        .group_by(Job.host_id)
    )
    return {row.host_id: row.workers for row in rows}
