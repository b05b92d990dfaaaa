"""The worker processes of one host: supervisor, slots and, for `up`, the API, from one preload."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from rq.serializers import JSONSerializer

from emberq.config.current import get_config_cache, get_worker_config
from emberq.config.environment import Environment, get_environment
from emberq.config.restart_version import AppliedVersions, restart_version
from emberq.config.snapshot import Snapshot
from emberq.dispatch.configuration import ConfigurationFollower
from emberq.dispatch.maintenance import Maintenance
from emberq.dispatch.recover import DeadWorkers, on_horse_death
from emberq.entry_points import DOCUMENT_RESOURCES, QUEUE_NAME, SPAWNED_HORSE_SETUP
from emberq.errors import EmberqError
from emberq.store.admin.hosts import BEAT_SECONDS, HostConfig, beat, connection_name, release_host
from emberq.store.services import Services, configure_services
from emberq.system.machine import machine_identity
from emberq.system.processes import process_identity
from emberq.telemetry import metrics
from emberq.telemetry.logs import configure_logs, get_logger
from emberq.worker.horse.role import SpawnSetup
from emberq.worker.job.policy import HorsePolicy
from emberq.worker.preloader.metrics_role import MetricsEndpoint
from emberq.worker.preloader.preloader import PreloaderClient, Role
from emberq.worker.supervisor.reload import SourceWatcher
from emberq.worker.supervisor.run import make_supervisor
from emberq.worker.warm_worker import WarmWorker

__all__ = ["configure_spawned", "run_host"]

log = get_logger(__name__)

#: RQ's own worker lease; short, so that its registry forgets a dead worker soon.
_WORKER_TTL_SECONDS = 60
#: Seconds between RQ's own clean-ups of its registries.
_MAINTENANCE_SECONDS = 60


def run_host(
    services: Services,
    *,
    slots: int,
    queues: Sequence[str] = (QUEUE_NAME,),
    preload: Sequence[str] = (),
    roles: Mapping[str, Role] | None = None,
    beside: Sequence[str] = (),
    tick: Callable[[], None] | None = None,
    watcher: SourceWatcher | None = None,
    ready: Callable[[], None] | None = None,
) -> int:
    """Run workers until told to stop, beating for this host's lease all the while.

    Args:
        services: Database, Redis and blobs.
        slots: Number of worker slots.
        queues: RQ queues to listen on; one per worker is recovered best.
        preload: Modules with resources, besides the document service's own.
        roles: Further processes that can be forked from the preloader.
        beside: Those of them that run beside the slots.
        tick: Called about ten times a second.
        watcher: Makes a new generation whenever it tells of a change.
        ready: Called once when everything runs.

    Returns:
        The exit code: 0 after a stop that was asked for.
    """
    host_id = uuid.uuid4()
    host_name = socket.gethostname()
    described: dict[str, Any] = {
        "name": host_name,
        "pid": os.getpid(),
        "machine": machine_identity(),
        "process": process_identity(os.getpid()) or "",
        "workers": slots,
    }
    os.environ["EMBERQ_HOST_ID"] = str(host_id)
    services.database.application_name = connection_name(host_id)

    def make_worker(name: str, preloader: PreloaderClient | None) -> WarmWorker:
        settings = get_worker_config().settings
        worker = WarmWorker(
            list(queues),
            name=name,
            connection=services.worker_redis(),
            serializer=JSONSerializer,
            worker_ttl=_WORKER_TTL_SECONDS,
            maintenance_interval=_MAINTENANCE_SECONDS,
            job_monitoring_interval=10,
            log_job_description=False,
            preloader=preloader,
            horse_spec={"name": name},
            prepare_for_work=preloader is not None,
        )
        worker.on_horse_death = partial(on_horse_death, name)
        worker.policy = HorsePolicy(
            horse_max_jobs=settings.horse_max_jobs,
            horse_max_memory_growth=settings.horse_max_memory_growth,
            stall_timeout=settings.stall_timeout,
            job_memory_limit=settings.job_memory_limit,
            job_cpu_limit=settings.job_cpu_limit,
            job_max_processes=settings.job_max_processes,
        )
        return worker

    dead_workers = DeadWorkers(services, host_id)
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
        make_worker,
        slots=slots,
        modules=[DOCUMENT_RESOURCES, *preload],
        roles=roles,
        services=beside,
        shutdown_grace_seconds=lambda: get_worker_config().settings.shutdown_grace,
        prepare=services.database.after_fork,
        spawn_setup=_spawn_setup(services),
        on_death=dead_workers.add,
        label=lambda: restart_version(get_worker_config()),
        endpoint=endpoint,
    )
    services.database.close()
    supervisor.start()
    keeper = Maintenance(services)
    applied = AppliedVersions(loaded)

    def send_beat() -> None:
        config = HostConfig(
            get_config_cache().applied_version,
            applied.of_workers(supervisor.slot_labels()),
            follower.is_pushed,
            get_config_cache().unreadable,
        )
        with services.database.transaction() as connection:
            beat(connection, host_id, config=config, **described)
        metrics.set_config_version(config.version)
        metrics.sample()

    def on_config(snapshot: Snapshot) -> None:
        if applied.advance(snapshot):
            supervisor.reload("configuration")
        keeper.hasten("beat")

    follower = ConfigurationFollower(services, name="host", on_change=on_config)
    keeper.add("take_over", 0.2, dead_workers.take_over)
    keeper.add("beat", BEAT_SECONDS, send_beat)

    def on_tick() -> None:
        follower.tick()
        keeper.tick()
        if watcher is not None and watcher.has_changed():
            supervisor.reload("reload")
        if tick is not None:
            tick()

    on_tick()
    if ready is not None:
        ready()
    code = supervisor.run(tick=on_tick)
    follower.close()
    _release(services, host_id)
    endpoint.close()
    return code


def configure_spawned(*, environment: Mapping[str, Any], database_url: str, redis_url: str) -> None:
    """Set up a spawned horse as the process was that started its host.

    Args:
        environment: The process settings, secrets in clear: they come over a socket of our own.
        database_url: PostgreSQL.
        redis_url: Redis or Valkey.
    """
    settings = Environment.model_validate(environment)
    configure_logs(log_format=settings.log_format, level=settings.log_level)
    configure_services(settings, database_url=database_url, redis_url=redis_url)


def _spawn_setup(services: Services) -> SpawnSetup:
    settings = services.environment.model_dump()
    written = {
        name: value.get_secret_value()
        if isinstance(value, SecretStr)
        else str(value)
        if isinstance(value, Path)
        else value
        for name, value in settings.items()
    }
    return SpawnSetup(
        SPAWNED_HORSE_SETUP,
        {
            "environment": written,
            "database_url": services.database.url,
            "redis_url": services.redis_url,
        },
    )


def _release(services: Services, host_id: uuid.UUID) -> None:
    """Give back the lease and at once whatever was cut off at work, so that another host need not wait."""
    try:
        with services.database.transaction() as connection:
            release_host(connection, host_id)
        Maintenance(services).tick()
    except EmberqError as exc:
        log.warning("release_failed", error=exc.message)
