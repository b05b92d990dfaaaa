"""Warm workers under a supervisor: how a host's slots are put together and run."""

from __future__ import annotations

import contextlib
import math
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from redis import Redis
from redis.exceptions import RedisError

from emberq.config.environment import get_environment
from emberq.redis_pools import get_redis_pool
from emberq.retry.backoff import Backoff
from emberq.retry.classify import classify_redis_error
from emberq.retry.operation import Retrying
from emberq.telemetry.logs import get_logger
from emberq.worker.horse.role import HorseRole, SpawnSetup
from emberq.worker.job.policy import HorsePolicy
from emberq.worker.preloader.fork_server import Role
from emberq.worker.preloader.metrics_role import MetricsEndpoint
from emberq.worker.preloader.parked_socket import ParkedSocket
from emberq.worker.preloader.preloader import PreloaderClient
from emberq.worker.rq.allow_list import AllowList
from emberq.worker.rq.heartbeat import write_heartbeat
from emberq.worker.rq.orphans import OrphanRequeuer
from emberq.worker.supervisor.reload import SourceWatcher
from emberq.worker.supervisor.supervisor import Supervisor
from emberq.worker.supervisor.upkeep import OnDeath
from emberq.worker.supervisor.warmup import warm_up
from emberq.worker.warm_worker import WarmWorker

log = get_logger(__name__)

#: Seconds that running jobs get on SIGTERM where EMBERQ_SHUTDOWN_GRACE is not set; the default of container
#: schedulers.
_SHUTDOWN_GRACE_SECONDS = 30.0

#: Pauses between two attempts to reach Redis.
_REDIS_BACKOFF = Backoff(first_seconds=0.2, longest_seconds=2.0)

#: Makes the worker object of a slot, or the same one inside its horse: takes the name and, in a slot, the
#: preloader.
MakeWorker = Callable[[str, PreloaderClient | None], WarmWorker]


def make_supervisor(
    make_worker: MakeWorker,
    *,
    slots: int,
    modules: Sequence[str] = (),
    roles: Mapping[str, Role] | None = None,
    services: Mapping[str, ParkedSocket] = MappingProxyType({}),
    shutdown_grace_seconds: Callable[[], float],
    prepare: Callable[[], None] | None = None,
    spawn_setup: SpawnSetup | None = None,
    on_death: OnDeath | None = None,
    on_start: Callable[[int], None] | None = None,
    endpoint: MetricsEndpoint,
    label: Callable[[], str] = str,
) -> Supervisor:
    """Put N worker slots, and processes beside them, under a supervisor.

    Args, besides those of `Supervisor`:
        make_worker: Makes each worker.
        roles: Roles that the preloader can fork besides `horse` and `metrics`.
        spawn_setup: Sets up a horse that is spawned instead of forked.
        endpoint: Counts and serves the host's metrics.

    Raises:
        InvalidRequest: If the port of the metrics cannot be bound.
    """
    endpoint.enable()
    beside = {**services, **endpoint.bind()}
    host_name = socket.gethostname()

    def run_slot(number: int, preloader: PreloaderClient, ready: Callable[[str], None]) -> None:
        # The process id makes the name new for every process: RQ refuses a name that has not expired.
        name = f"{host_name}-{number}-{os.getpid()}"
        worker = _make_when_redis_answers(make_worker, name, preloader)
        worker.on_ready = lambda: ready(name)
        worker.work(logging_level="WARNING", with_scheduler=worker.with_scheduler)

    warm_up(make_worker(f"{host_name}-warmup-{os.getpid()}", None))
    horse = HorseRole(lambda spec: make_worker(spec["name"], None), spawn_setup)
    return Supervisor(
        slots=slots,
        run_slot=run_slot,
        roles={"horse": horse, "metrics": endpoint.role, **(roles or {})},
        modules=modules,
        services=beside,
        shutdown_grace_seconds=shutdown_grace_seconds,
        prepare=prepare,
        on_death=on_death,
        on_start=on_start,
        label=label,
    )


def _make_when_redis_answers(make_worker: MakeWorker, name: str, preloader: PreloaderClient) -> WarmWorker:
    """Make a slot's worker once Redis accepts its heartbeat, however long that takes.

    RQ's worker ends when Redis fails at the wrong moment. The processes after it would do the same, until the
    supervisor takes that for a crash loop and gives up.
    """
    attempts = Retrying(
        classify_redis_error,
        operation="first_heartbeat",
        idempotent=True,
        max_retries=None,
        total_seconds=math.inf,
        backoff=_REDIS_BACKOFF,
    )
    with contextlib.suppress(RedisError):
        for attempt in attempts:
            with attempt:
                worker = make_worker(name, preloader)
                write_heartbeat(worker.connection, name)
                return worker
    # A permanent error: RQ's worker does not need that command, or its own error says what is wrong.
    return make_worker(name, preloader)


def run_workers(
    url: str,
    queues: Sequence[str],
    *,
    slots: int,
    modules: Sequence[str] = (),
    serializer: str | None = None,
    with_scheduler: bool = False,
    watcher: SourceWatcher | None = None,
    ready: Callable[[], None] | None = None,
) -> int:
    """Run warm workers for any RQ queues until told to stop.

    Args:
        url: Redis or Valkey.
        queues: The queues, the most important first.
        slots: Number of workers.
        modules: Modules whose resources are preloaded.
        serializer: RQ's serializer, as a dotted name; RQ's default if left out.
        with_scheduler: Whether the workers also run RQ's scheduler; one of them does at a time.
        watcher: Causes a reload whenever it tells of a change.
        ready: Called once when all workers serve; while Redis is away, that is when it is back.

    Returns:
        The exit code: 0 after a stop that was asked for.

    Raises:
        PreloadFailed: If the resources could not be loaded.
        CrashLoop: If a worker dies time and again before it serves.
    """
    environment = get_environment()

    def make_worker(name: str, preloader: PreloaderClient | None) -> WarmWorker:
        worker = WarmWorker(
            list(queues),
            name=name,
            connection=Redis(connection_pool=get_redis_pool("worker", url)),
            serializer=serializer,
            preloader=preloader,
            horse_spec={"name": name},
            prepare_for_work=preloader is not None,
            allow=AllowList.parse(environment.allow or ""),
        )
        worker.with_scheduler = with_scheduler
        return worker

    endpoint = MetricsEndpoint(
        host=environment.host, port=environment.metrics_port, directory=environment.metrics_dir
    )
    orphans = OrphanRequeuer(queues, connection=Redis(connection_pool=get_redis_pool("control", url)))
    supervisor = make_supervisor(
        make_worker,
        slots=slots,
        modules=modules,
        endpoint=endpoint,
        on_death=lambda _worker: orphans.note_death(),
        shutdown_grace_seconds=lambda: (
            HorsePolicy.from_environment().shutdown_grace or _SHUTDOWN_GRACE_SECONDS
        ),
    )

    waiting = [ready] if ready is not None else []

    def on_tick() -> None:
        orphans.tick()
        if waiting and supervisor.all_serve():
            waiting.pop()()
        if watcher is not None and watcher.has_changed():
            supervisor.reload("reload")

    with contextlib.closing(endpoint):
        supervisor.start()
        return supervisor.run(tick=on_tick)
