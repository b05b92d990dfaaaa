"""The commands that run emberq's processes: up, serve, worker and migrate; each returns its exit code."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from sqlalchemy import make_url

from emberq.cli.first_key import first_key_path, write_first_key
from emberq.config.environment import SECRET_VARIABLES, Environment, get_environment
from emberq.embedded import DataDirectoryInUse, Engines
from emberq.errors import EmberqError
from emberq.store.admin.api_keys import DEFAULT_TENANT, ensure_first_key
from emberq.store.admin.api_keys import create_key as store_key
from emberq.store.database import Database
from emberq.store.migrate import migrate as run_migrations
from emberq.store.roles import bypasses_row_security
from emberq.store.services import Services, configure_services
from emberq.system.environment_variable import forget_variables
from emberq.system.processes import forbid_dumps, set_process_title
from emberq.telemetry import metrics
from emberq.telemetry.logs import configure_logs, get_logger
from emberq.visible import host_and_port
from emberq.worker.preloader.parked_socket import ParkedSocket
from emberq.worker.supervisor.process_record import end_remains

if TYPE_CHECKING:
    from fastapi import APIRouter

log = get_logger(__name__)


def up(*, data_dir: Path | None, host: str | None, port: int | None, workers: int | None) -> int:
    """Run the engines, the API and the workers on this machine.

    An argument that is None is taken from the environment.

    Args:
        data_dir: The data directory.
        host: Address the API listens on.
        port: Port the API listens on; 0 for any free port.
        workers: Number of worker slots.
    """
    from emberq.api.app import open_listener

    environment = _environment(data_dir=data_dir, host=host, port=port, workers=workers)
    _keep_secrets_inside()
    _check_sandbox(environment)
    _ensure_model()
    end_remains(environment.data_dir)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(
            contextlib.closing(ParkedSocket(open_listener(environment.host, environment.port)))
        )
        engines = stack.enter_context(_stop_as_exit(_engines(environment)))
        first_key = _prepare_database(environment, engines)
        services = _configure(environment, engines, database_url=engines.worker_database_url)
        return _run_everything(environment, engines, services, listener, first_key)


def _run_everything(
    environment: Environment,
    engines: Engines,
    services: Services,
    listener: ParkedSocket,
    first_key: str | None,
) -> int:
    from emberq.dispatch.host import run_host
    from emberq.system.messages import receive, send

    def run_api(_spec: object, channel: socket.socket) -> None:
        from emberq.api.app import serve as serve_api

        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _, given = receive(channel)
        if not given:
            return
        metrics.open_own_files()
        services.database.after_fork()
        services.database.become(engines.api_database_url)
        serve_api(
            socket.socket(fileno=given[0]), ready=lambda: send(channel, {"ready": ""}), routers=_routers()
        )

    def announce() -> None:
        _print_ready(
            f"emberq is ready at http://{host_and_port(*listener.address)}  (docs at /docs, Ctrl-C stops)",
            first_key=first_key,
            key_file=first_key_path(environment.data_dir),
        )

    return run_host(
        services,
        slots=environment.workers,
        preload=_modules(environment.preload),
        roles={"api": run_api},
        beside={"api": listener},
        tick=lambda: _ensure_engines(engines),
        ready=announce,
    )


def _print_ready(text: str, *, first_key: str | None = None, key_file: Path | None = None) -> None:
    """Print that a process is ready, and where the first API key is.

    Args:
        text: What is ready.
        first_key: The key, if it was just created: it is printed to a terminal only.
        key_file: The file with the key.
    """
    console = Console(highlight=False, markup=False)
    console.print(text)
    if first_key is not None and sys.stdout.isatty():
        console.print(f"API key: {first_key}", soft_wrap=True)
    if key_file is not None and key_file.exists():
        console.print(
            f"The API key is in {key_file}; `emberq` commands of this user find it there.", soft_wrap=True
        )
    sys.stdout.flush()


def _routers() -> list[APIRouter]:
    """Return the routes for other systems, which the API serves besides its own."""
    from emberq.openwebui.api import loader

    return [loader.router]


def _ensure_engines(engines: Engines) -> None:
    try:
        engines.ensure()
    except EmberqError as exc:
        # Retried at the next tick; meanwhile the API answers 503 and the workers wait.
        Console(stderr=True).print(f"{exc.message} → {exc.hint}")


def serve(*, host: str | None, port: int | None) -> int:
    """Run only the API."""
    from emberq.api.app import open_listener
    from emberq.api.app import serve as serve_api

    environment = _environment(host=host, port=port)
    _keep_secrets_inside()
    _ensure_model()
    with open_listener(environment.host, environment.port) as listener, _running(environment) as engines:
        first_key = _prepare_database(environment, engines)
        _configure(environment, engines, database_url=engines.api_database_url)
        address = host_and_port(*listener.getsockname()[:2])
        _print_ready(
            f"The emberq API is at http://{address}",
            first_key=first_key,
            key_file=first_key_path(environment.data_dir),
        )
        set_process_title("api")
        serve_api(listener, routers=_routers())
    return 0


def worker(
    *,
    workers: int | None,
    queues: Sequence[str],
    preload: Sequence[str],
    serializer: str | None = None,
    with_scheduler: bool = False,
    reload: bool = False,
) -> int:
    """Run only workers, for documents or for other RQ queues.

    Args:
        workers: Number of slots.
        queues: RQ queues; the document queue if there are none.
        preload: Modules with resources, besides those of the document service.
        serializer: RQ's serializer for queues other than the document queue.
        with_scheduler: Whether to run RQ's scheduler for them.
        reload: Whether to restart workers when code below the working directory changes.
    """
    from emberq.entry_points import QUEUE_NAME
    from emberq.worker.supervisor.reload import SourceWatcher

    environment = _environment(workers=workers)
    # As RQ's own command does: modules are found from the working directory.
    sys.path.insert(0, str(Path.cwd()))
    modules = [*_modules(environment.preload), *preload]
    watcher = SourceWatcher(Path.cwd()) if reload else None

    def announce() -> None:
        _print_ready(f"{environment.workers} workers are ready")

    if queues and QUEUE_NAME not in queues:
        from emberq.worker.supervisor.run import run_workers

        with _redis_alone(environment) as url:
            return run_workers(
                url,
                queues,
                slots=environment.workers,
                modules=modules,
                serializer=serializer,
                with_scheduler=with_scheduler,
                watcher=watcher,
                ready=announce,
            )
    from emberq.dispatch.host import run_host

    _keep_secrets_inside()
    _check_sandbox(environment)
    _ensure_model()
    with _running(environment) as engines:
        # Not the first key, which only the start of the API writes.
        _migrate(engines)
        return run_host(
            _configure(environment, engines, database_url=engines.worker_database_url),
            slots=environment.workers,
            queues=list(queues) or [QUEUE_NAME],
            preload=modules,
            watcher=watcher,
            ready=announce,
        )


def migrate(*, json_output: bool = False) -> int:
    """Migrate the database schema to the newest version."""
    environment = _environment()
    with _running(environment) as engines:
        before, after = _migrate(engines)
    if json_output:
        sys.stdout.write(json.dumps({"before": before, "after": after}) + "\n")
    elif before == after:
        sys.stdout.write(f"The schema is up to date ({after}).\n")
    else:
        sys.stdout.write(f"Migrated the schema from {before or 'an empty database'} to {after}.\n")
    return 0


def create_key(
    *, name: str, scopes: Sequence[str] | None, tenant: str | None, valid_seconds: float | None = None
) -> str:
    """Create an API key directly in the database and return it."""
    owner = tenant or DEFAULT_TENANT
    with (
        _connected(_environment()) as services,
        services.database.tenant_transaction(owner) as connection,
    ):
        return store_key(connection, name=name, scopes=scopes, tenant=owner, valid_seconds=valid_seconds)


@contextlib.contextmanager
def open_database() -> Iterator[str]:
    """Yield the URL of the database, for the owner of its tables; starts embedded engines."""
    with _running(_environment()) as engines:
        _migrate(engines)
        yield engines.database_url


def _environment(**given: object) -> Environment:
    """Return the environment, with the values given on the command line in place of its own."""
    changes = {key: value for key, value in given.items() if value is not None}
    environment = get_environment()
    if changes:
        environment = Environment.model_validate({**environment.model_dump(), **changes})
    configure_logs(log_format=environment.log_format, level=environment.log_level)
    return environment


def _keep_secrets_inside() -> None:
    """Leave no secret where another process finds it: in the environment, in a dump, in this one's memory.

    Called once the environment is read. What is forked from this process keeps the settings that were read.
    """
    forbid_dumps()
    forget_variables(SECRET_VARIABLES)


def _engines(environment: Environment) -> Engines:
    url = environment.database_url
    return Engines(
        environment.data_dir,
        database_url=url.get_secret_value() if url else None,
        redis_url=environment.redis_url,
    )


@contextlib.contextmanager
def _stop_as_exit(engines: Engines) -> Iterator[Engines]:
    """Run the engines; SIGTERM becomes an ordinary exit, so that the engines are always stopped."""

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    with engines:
        yield engines


@contextlib.contextmanager
def _running(environment: Environment) -> Iterator[Engines]:
    """Use the engines of a running `emberq up` on this data directory, or start them for the block."""
    engines = _engines(environment)
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(DataDirectoryInUse):
            stack.enter_context(_stop_as_exit(engines))
        yield engines


@contextlib.contextmanager
def _connected(environment: Environment) -> Iterator[Services]:
    """Yield the services of the API's role on running engines."""
    with _running(environment) as engines:
        yield _configure(environment, engines, database_url=engines.api_database_url)


@contextlib.contextmanager
def _redis_alone(environment: Environment) -> Iterator[str]:
    """Yield the URL of Redis: the environment's, a running `emberq up`'s, or one started for the block."""
    if environment.redis_url is not None:
        yield environment.redis_url
        return
    # No database is needed: with a URL given, the embedded one is not started.
    engines = Engines(environment.data_dir, database_url="postgresql://", redis_url=None)
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(DataDirectoryInUse):
            stack.enter_context(_stop_as_exit(engines))
        yield engines.redis_url


def _configure(environment: Environment, engines: Engines, *, database_url: str) -> Services:
    return configure_services(environment, database_url=database_url, redis_url=engines.redis_url)


def _migrate(engines: Engines) -> tuple[str | None, str]:
    """Migrate the schema as the owner of the tables; return its revision before and after."""
    with contextlib.closing(Database(engines.database_url)) as database:
        revisions = run_migrations(database)
        with database.transaction() as connection:
            if bypasses_row_security(connection):
                log.warning("row_security_bypassed", role=make_url(engines.database_url).username)
    return revisions


def _prepare_database(environment: Environment, engines: Engines) -> str | None:
    """Migrate the schema, and create and return the first API key of a new installation.

    Its file is written before the commit, so that a key that exists can be found.
    """
    _migrate(engines)
    data_dir = environment.data_dir
    try:
        with (
            contextlib.closing(Database(engines.database_url)) as database,
            database.system_transaction() as connection,
        ):
            key = ensure_first_key(connection)
            if key is not None:
                write_first_key(data_dir, key)
    except OSError as exc:
        hint = f"`emberq keys create NAME` makes one; {data_dir} cannot be written: {exc.strerror}."
        Console(stderr=True).print(f"There is no API key yet. → {hint}", soft_wrap=True)
        return None
    return key


def _check_sandbox(environment: Environment) -> None:
    """Refuse to read files on a system that cannot confine their readers, if EMBERQ_SANDBOX asks for that."""
    if environment.sandbox == "require":
        from emberq.pipeline.sandbox.reader_handle import check_full_protection

        check_full_protection()


def _ensure_model() -> None:
    """Download the default model at the first start; does nothing if it is there."""
    from emberq.models.pins import DEFAULT_MODEL
    from emberq.models.pull import pull_model

    pull_model(DEFAULT_MODEL)


def _modules(names: str | None) -> list[str]:
    return [name.strip() for name in (names or "").split(",") if name.strip()]
