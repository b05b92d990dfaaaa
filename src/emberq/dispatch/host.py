"""The worker processes of one host: supervisor, slots and, for `up`, the API, from one preload."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import SecretStr
from rq.serializers import JSONSerializer

from emberq.config.current import get_config_cache, get_worker_config
from emberq.config.environment import Environment, get_environment
from emberq.config.restart_version import AppliedVersions, restart_version
from emberq.config.runtime import RuntimeSettings
from emberq.config.snapshot import Snapshot
from emberq.dispatch.maintenance import Duty, Maintenance
from emberq.dispatch.recover import DeadWorkers, on_horse_death
from emberq.dispatch.settings_listener import SettingsListener
from emberq.entry_points import (
    DOCUMENT_RESOURCES,
    PROCESS_FILE,
    QUEUE_NAME,
    SPAWNED_HORSE_SETUP,
    TICKET_ENDED,
    TICKET_STOPPED,
)
from emberq.errors import EmberqError
from emberq.store.admin.hosts import (
    LEASE_RENEWAL_SECONDS,
    HostConfig,
    connection_name,
    release_lease,
    renew_lease,
)
from emberq.store.services import Services, configure_services
from emberq.system.machine import machine_identity
from emberq.system.processes import forbid_dumps, process_identity
from emberq.telemetry import metrics
from emberq.telemetry.logs import configure_logs, get_logger
from emberq.worker.horse.role import SpawnSetup
from emberq.worker.job.policy import HorsePolicy
from emberq.worker.preloader.fork_server import Role
from emberq.worker.preloader.metrics_role import MetricsEndpoint
from emberq.worker.preloader.parked_socket import ParkedSocket
from emberq.worker.preloader.preloader import PreloaderClient
from emberq.worker.rq.allow_list import AllowList
from emberq.worker.supervisor.process_record import ProcessRecord, end_remains
from emberq.worker.supervisor.reload import SourceWatcher
from emberq.worker.supervisor.run import make_supervisor
from emberq.worker.supervisor.supervisor import Supervisor
from emberq.worker.warm_worker import WarmWorker

log = get_logger(__name__)

#: RQ's own worker lease; short, so that its registry forgets a dead worker soon.
_WORKER_TTL_SECONDS = 60
#: Seconds between RQ's own clean-ups of its registries.
_RQ_MAINTENANCE_SECONDS = 60
#: The commands of RQ's channel that document workers obey: a stop, which PostgreSQL must confirm. The others
#: would let any writer to Redis end workers, or count attempts of files.
_COMMANDS = frozenset({"stop-job"})
#: Seconds between two looks for dead workers of this host.
_REAP_WORKERS_SECONDS = 0.2


def run_host(
    services: Services,
    *,
    slots: int,
    queues: Sequence[str] = (QUEUE_NAME,),
    preload: Sequence[str] = (),
    roles: Mapping[str, Role] | None = None,
    beside: Mapping[str, ParkedSocket] = MappingProxyType({}),
    tick: Callable[[], None] | None = None,
    watcher: SourceWatcher | None = None,
    ready: Callable[[], None] | None = None,
) -> int:
    """Run workers until told to stop, and renew this host's lease in the meantime.

    Args:
        services: Database, Redis and blobs.
        slots: Number of worker slots.
        queues: RQ queues to listen on; a lost job is found soonest if each worker has only one.
        preload: Modules with resources, besides the document service's own.
        roles: Further processes that can be forked from the preloader.
        beside: Names of roles that run beside the slots, and the sockets that they serve on.
        tick: Called about ten times a second.
        watcher: Causes a reload whenever it sees a change.
        ready: Called once when everything runs.

    Returns:
        The exit code: 0 after a requested stop.
    """
    end_remains(services.data_dir)
    record = ProcessRecord(services.data_dir)
    lease = _Lease(services, slots=slots)
    dead_workers = DeadWorkers(services, lease.host_id)
    # Read before the fork: the preloader, and so every horse, starts with this snapshot.
    loaded = get_worker_config()
    environment = get_environment()
    endpoint = MetricsEndpoint(
        host=environment.host,
        port=environment.metrics_port,
        directory=environment.metrics_dir,
        parent=services.data_dir / "metrics",
    )
    supervisor = make_supervisor(
        partial(_make_worker, services, queues),
        slots=slots,
        modules=[DOCUMENT_RESOURCES, *preload],
        roles=roles,
        services=beside,
        shutdown_grace_seconds=lambda: get_worker_config().settings.shutdown_grace,
        prepare=services.database.after_fork,
        spawn_setup=_spawn_setup(services),
        on_death=dead_workers.add,
        on_start=record.add,
        label=lambda: restart_version(get_worker_config()),
        endpoint=endpoint,
    )
    services.database.close()
    supervisor.start()
    host = _Host(services, lease, supervisor, AppliedVersions(loaded), dead_workers)

    def on_tick() -> None:
        host.tick()
        if watcher is not None and watcher.has_changed():
            supervisor.reload("reload")
        if tick is not None:
            tick()

    on_tick()
    if ready is not None:
        ready()
    code = supervisor.run(tick=on_tick)
    host.close()
    endpoint.close()
    record.remove()
    return code


class _Lease:
    """This host's lease: renewed every two seconds, released at a normal stop."""

    def __init__(self, services: Services, *, slots: int) -> None:
        """Choose a new host id, and give it to the connections and processes that are made from now on."""
        self._services = services
        self.host_id = uuid.uuid4()
        self._host: dict[str, Any] = {
            "name": socket.gethostname(),
            "pid": os.getpid(),
            "machine": machine_identity(),
            "process": process_identity(os.getpid()) or "",
            "workers": slots,
        }
        os.environ["EMBERQ_HOST_ID"] = str(self.host_id)
        services.database.application_name = connection_name(self.host_id)

    def renew(self, config: HostConfig) -> None:
        """Renew the lease, and report the host's configuration with it."""
        with self._services.database.transaction() as connection:
            renew_lease(connection, self.host_id, config=config, **self._host)

    def release(self) -> None:
        """Delete the lease and end the attempts that were cut off, so that no other host waits for it."""
        try:
            with self._services.database.transaction() as connection:
                release_lease(connection, self.host_id)
            Maintenance(self._services).tick()
        except EmberqError as exc:
            log.warning("lease_not_released", error=exc.message)


class _Host:
    """A running host: listens for changed settings and does its duties between the supervisor's."""

    def __init__(
        self,
        services: Services,
        lease: _Lease,
        supervisor: Supervisor,
        applied: AppliedVersions,
        dead_workers: DeadWorkers,
    ) -> None:
        self._lease = lease
        self._supervisor = supervisor
        self._applied = applied
        self._settings_listener = SettingsListener(
            services, name="host", on_change=self._change_configuration
        )
        self._maintenance = Maintenance(services)
        self._maintenance.add(Duty("reap_workers", _REAP_WORKERS_SECONDS, dead_workers.reap))
        self._maintenance.add(Duty("renew_lease", LEASE_RENEWAL_SECONDS, self._renew_lease))

    def tick(self) -> None:
        """Take in changed settings and run the duties that are due."""
        self._settings_listener.tick()
        self._maintenance.tick()

    def close(self) -> None:
        """Stop listening for changed settings and release the lease."""
        self._settings_listener.close()
        self._lease.release()

    def _renew_lease(self) -> None:
        cache = get_config_cache()
        config = HostConfig(
            cache.applied_version,
            self._applied.of_workers(self._supervisor.slot_labels()),
            self._settings_listener.is_pushed,
            cache.unreadable,
            self._maintenance.queue_error,
        )
        self._lease.renew(config)
        metrics.set_config_version(config.version)
        metrics.sample()

    def _change_configuration(self, snapshot: Snapshot) -> None:
        if self._applied.advance(snapshot):
            self._supervisor.reload("configuration")
        # The row of the lease tells other processes which version this host applies.
        self._maintenance.run_soon("renew_lease")


def _make_worker(
    services: Services, queues: Sequence[str], name: str, preloader: PreloaderClient | None
) -> WarmWorker:
    worker = WarmWorker(
        list(queues),
        name=name,
        connection=services.worker_redis(),
        serializer=JSONSerializer,
        worker_ttl=_WORKER_TTL_SECONDS,
        maintenance_interval=_RQ_MAINTENANCE_SECONDS,
        job_monitoring_interval=10,
        log_job_description=False,
        preloader=preloader,
        allow=_allow_list(services.environment),
        horse_spec={"name": name},
        prepare_for_work=preloader is not None,
    )
    worker.on_horse_death = partial(on_horse_death, name)
    worker.commands = _COMMANDS
    worker.policy = _horse_policy(get_worker_config().settings)
    return worker


def _allow_list(environment: Environment) -> AllowList:
    """Return the functions of documents, and those that the operator names for other queues of the host."""
    named = AllowList.parse(environment.allow or "")
    patterns = (PROCESS_FILE, TICKET_ENDED, TICKET_STOPPED, *(named.patterns if named is not None else ()))
    return AllowList.of(patterns, tickets=[PROCESS_FILE])


def _horse_policy(settings: RuntimeSettings) -> HorsePolicy:
    """Return the limits of the settings for horses; `shutdown_grace` is the supervisor's own business."""
    names = {field.name for field in fields(HorsePolicy)} - {"shutdown_grace"}
    return HorsePolicy(**settings.model_dump(include=names))


def configure_spawned(*, environment: Mapping[str, Any], database_url: str, redis_url: str) -> None:
    """Configure a spawned horse like the process that started its host.

    Args:
        environment: The process settings, secrets in clear: they come over a socket of our own.
        database_url: PostgreSQL.
        redis_url: Redis or Valkey.
    """
    forbid_dumps()
    settings = Environment.model_validate(environment)
    configure_logs(log_format=settings.log_format, level=settings.log_level)
    configure_services(settings, database_url=database_url, redis_url=redis_url)


def _spawn_setup(services: Services) -> SpawnSetup:
    environment = {
        name: value.get_secret_value()
        if isinstance(value, SecretStr)
        else str(value)
        if isinstance(value, Path)
        else value
        for name, value in services.environment.model_dump().items()
    }
    return SpawnSetup(
        SPAWNED_HORSE_SETUP,
        {
            "environment": environment,
            "database_url": services.database.url,
            "redis_url": services.redis_url,
        },
    )
