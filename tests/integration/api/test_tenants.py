"""Every route, asked by two tenants: no answer to one contains anything of the other, nor changes it."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from rq import Queue, Worker
from rq.serializers import JSONSerializer
from sqlalchemy import event, text

from emberq.api.app import make_app, make_server, open_listener
from emberq.config.current import get_worker_config
from emberq.config.environment import Environment
from emberq.models.files import models_dir as models_folder
from emberq.store.admin.api_keys import create_key
from emberq.store.files.commit import commit_file
from emberq.store.files.extractions import PageRange
from emberq.store.jobs.admission import admit_jobs
from emberq.store.jobs.claim import claim_job
from emberq.store.services import Services, configure_services
from tests.harness.eventually import LIMIT_SECONDS, eventually
from tests.harness.two_tenants import COMMON, Tenant, fill, rows

#: A comparison of the tenant with a parameter, as the code writes it.
_FILTER = re.compile(r"(?:\w+\.)?\btenant = (%\(\w+\)s)(?:::\w+)?")
#: Routes without an end: read until something has come.
_STREAMS = ("/events",)
_METHODS = ("get", "put", "post", "patch", "delete")


def bodies(own: Tenant, other: Tenant, operation: str) -> list[dict[str, Any]]:
    """Return the bodies to send; what is not named here needs none, or is refused without the scope."""
    collections = (COMMON, own.own_collection, other.own_collection)
    upload = {"file": (f"{own.name}.txt", b"The same bytes.")}
    known: dict[str, list[dict[str, Any]]] = {
        "post /v1/embeddings": [{"json": {"input": [own.name, "the words"]}}, {"json": {"input": ["x"] * 3}}],
        "post /v1/rerank": [{"json": {"query": "words", "documents": ["the words", own.name]}}],
        "post /v1/convert/file": [{"files": {"files": ("same.txt", b"The same bytes.")}}],
        "post /api/v1/collections": [{"json": {"name": name}} for name in (*collections, "fresh")],
        "post /api/v1/collections/{name}/search": [
            {"json": {"query": "the words of anyone searchable", "mode": mode, "k": 50}}
            for mode in ("keyword", "vector", "hybrid")
        ],
        "post /api/v1/collections/{name}/files": [
            {"files": upload, "data": {"external_id": f"{other.name}/0"}},
            {"files": upload, "headers": {"Idempotency-Key": f"{other.name}-0"}},
        ],
        "patch /api/v1/files/{file_id}": [{"json": {"name": own.name, "metadata": {"of": own.name}}}],
        "patch /api/v1/collections/{name}": [{"json": {"metadata": {"of": own.name}}}],
        "post /api/v1/jobs/retry": [
            {"json": {"error_code": "corrupt_file"}},
            *({"json": {"collection": name}} for name in collections),
        ],
        "post /api/v1/jobs/cancel": [{"json": {"collection": name}} for name in collections],
        "post /api/v1/jobs/purge": [{"json": {"older_than_seconds": 60}}],
        "post /api/v1/pauses": [
            {"json": {"scope": "tenant"}},
            {"json": {"scope": "tenant", "name": other.name}},
            {"json": {"scope": "queue"}},
            *({"json": {"scope": "collection", "name": name}} for name in collections),
        ],
        "delete /api/v1/pauses": [
            {"params": {"scope": "tenant", "name": other.name}},
            *({"params": {"scope": "collection", "name": name}} for name in collections),
        ],
        "get /api/v1/jobs": [{}, {"params": {"tenant": other.name}}, {"params": {"reason": "paused"}}],
    }
    if operation.startswith(("put /tika", "put /rmeta")):
        return [{"content": b"The same bytes."}]
    return known.get(operation, [{}])


def values(own: Tenant, other: Tenant, name: str) -> list[str]:
    """Return the values of a parameter in a path: the tenant's own and the other's."""
    found: dict[str, list[Any]] = {
        "name": [COMMON, own.own_collection, other.own_collection],
        "file_id": [own.files[0], own.files[-1], *other.files],
        "job_id": [own.jobs[0], own.jobs[-1], *other.jobs],
    }
    return [str(one) for one in found.get(name, ["rag_top_k"])]


class Walk:
    """One tenant's walk over all routes."""

    def __init__(self, client: httpx.Client, own: Tenant, other: Tenant) -> None:
        self._client = client
        self._own, self._other = own, other
        self.statuses: dict[str, set[int]] = {}
        self.leaks: list[str] = []

    def take(self, routes: dict[str, dict[str, Any]]) -> None:
        """Ask every route; those that change least come first, and conversions before the pauses."""
        paths = sorted(routes, key=lambda path: path.startswith("/api/"))
        operations = [
            (method, path)
            for method in _METHODS
            # Files are deleted before their collections.
            for path in (reversed(paths) if method == "delete" else paths)
            if method in routes[path]
        ]
        assert len(operations) == sum(len(one) for one in routes.values())
        for method, path in operations:
            for address in self._addresses(path):
                for body in bodies(self._own, self._other, f"{method} {path}"):
                    self._ask(method, path, address, body)

    def _addresses(self, path: str) -> Iterator[str]:
        name = re.search(r"{(\w+)}", path)
        if name is None:
            yield path
            return
        for value in values(self._own, self._other, name[1]):
            yield path.replace(name[0], value)

    def _ask(self, method: str, path: str, address: str, body: dict[str, Any]) -> None:
        headers = {"Authorization": f"Bearer {self._own.key}", **body.get("headers", {})}
        request = self._client.build_request(method, address, **{**body, "headers": headers})
        try:
            answer = self._client.send(request, stream=True)
        except httpx.TransportError:
            # The server has closed the connection after an error.
            self.statuses.setdefault(f"{method} {path}", set()).add(HTTPStatus.INTERNAL_SERVER_ERROR)
            return
        shown = json.dumps(dict(answer.headers))
        if path.endswith(_STREAMS) and answer.status_code == HTTPStatus.OK:
            events = (line for line in answer.iter_lines() if line.startswith("data"))
            shown += "".join(islice(events, 1 if "job_id" in path else len(self._own.jobs)))
        else:
            shown += answer.read().decode(errors="replace")
        answer.close()
        self.statuses.setdefault(f"{method} {path}", set()).add(answer.status_code)
        sent = f"{address} {body}"
        for secret in self._other.secrets:
            if secret in shown and secret not in sent:
                self.leaks.append(f"{method} {address} {body}: {secret!r} in {shown[:400]}")


@contextmanager
def served(services: Services) -> Iterator[tuple[httpx.Client, dict[str, Any]]]:
    """Serve the API, and yield a client and its routes."""
    app = make_app(maintenance=False)
    listener = open_listener("127.0.0.1", 0)
    server = make_server(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    stop = threading.Event()
    extractor = threading.Thread(target=extract, args=(services, stop))
    extractor.start()
    try:
        eventually(lambda: server.started)
        host, port = listener.getsockname()
        with httpx.Client(base_url=f"http://{host}:{port}", timeout=LIMIT_SECONDS) as client:
            yield client, app.openapi()["paths"]
    finally:
        stop.set()
        extractor.join()
        server.should_exit = True
        thread.join()
        listener.close()


def extract(services: Services, stop: threading.Event) -> None:
    """Do a worker's part for conversions: the text names the tenant."""
    waiting = text(
        "SELECT jobs.id, ticket FROM jobs JOIN collections ON collections.id = collection_id"
        " WHERE state = 'queued' AND kind = 'extraction'"
    )
    while not stop.wait(0.02):
        with services.database.system_transaction() as connection:
            admit_jobs(connection, limit=10)
            for job in connection.execute(waiting).all():
                attempt = claim_job(connection, job.id, ticket=job.ticket, worker="w", host_id=None)
                assert attempt is not None
                words = f"The words of {attempt.tenant}."
                page = PageRange(0, len(words), None, None)
                commit_file(
                    connection,
                    attempt,
                    text=words,
                    media_type="text/plain",
                    page_count=None,
                    chunks=(),
                    timings={},
                    pages=[page],
                )


@contextmanager
def without_filters(services: Services) -> Iterator[set[str]]:
    """Take every comparison with a tenant out of every statement; yield the statements, to count them."""
    changed: set[str] = set()

    def strip(
        _connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool
    ) -> tuple[str, Any]:
        stripped = _FILTER.sub(r"CAST(\1 AS text) IS NOT NULL", statement)
        if stripped != statement:
            changed.add(statement)
        return stripped, parameters

    event.listen(services.database.engine, "before_cursor_execute", strip, retval=True)
    yield changed
    event.remove(services.database.engine, "before_cursor_execute", strip)


@pytest.fixture
def tenants(services: Services, models_dir: Path) -> tuple[Tenant, Tenant]:
    """Two tenants with something in every table; the model is there for searches."""
    assert models_dir.exists()
    get_worker_config()
    north, south = fill(services, "north-7f3a9c", documents=2), fill(services, "south-4b8e2d", documents=3)
    with services.database.system_transaction() as connection:
        # So that no walk admits a job of the other tenant.
        admit_jobs(connection, limit=10)
    show_in_workers(services, north, south)
    return north, south


def walk(services: Services, north: Tenant, south: Tenant) -> list[Walk]:
    """Let each of two tenants ask every route, and return what happened."""
    walks = []
    with served(services) as (client, routes):
        for own, other in ((north, south), (south, north)):
            before = rows(services, other)
            walks.append(Walk(client, own, other))
            walks[-1].take(routes)
            after = rows(services, other)
            walks[-1].leaks += [f"changed: {table}" for table in before if before[table] != after[table]]
    return walks


def show_in_workers(services: Services, *tenants: Tenant) -> None:
    """Register a worker for each tenant that runs a job of it."""
    queue = Queue("emberq", connection=services.redis(), serializer=JSONSerializer)
    for tenant in tenants:
        worker: Any = Worker([queue], name=f"worker-{len(tenant.jobs)}", connection=services.redis())
        worker.register_birth()
        services.redis().hset(worker.key, "current_job", f"{tenant.jobs[0]}-1")


def test_no_route_shows_a_tenant_anything_of_another_or_changes_it(
    services: Services, tenants: tuple[Tenant, Tenant]
) -> None:
    for one in walk(services, *tenants):
        assert one.leaks == []
        assert not any(status >= 500 for statuses in one.statuses.values() for status in statuses)
        worked = {operation for operation, statuses in one.statuses.items() if min(statuses) < 300}
        refused = {operation for operation in one.statuses if operation not in worked}
        assert refused == {operation for operation in refused if one.statuses[operation] <= {403, 422}}
        assert all(re.search("/(settings|keys|audit)", operation) for operation in refused), refused


def test_nor_does_one_whose_statements_have_lost_their_filters(
    services: Services, tenants: tuple[Tenant, Tenant]
) -> None:
    with without_filters(services) as changed:
        for one in walk(services, *tenants):
            assert one.leaks == []
    assert len(changed) > 20


def test_the_walk_would_find_what_leaks(services: Services, tenants: tuple[Tenant, Tenant]) -> None:
    with services.database.system_transaction() as connection:
        tables = connection.execute(text("SELECT relname FROM pg_class WHERE relrowsecurity")).scalars()
        for table in tables.all():
            connection.execute(text(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY"))
    with without_filters(services):
        found = [leak for one in walk(services, *tenants) for leak in one.leaks]
    for part in ("/api/v1/files/", "/api/v1/jobs"):
        assert any(part in leak for leak in found), part


def test_a_collection_takes_only_a_model_that_is_allowed(services: Services) -> None:
    with services.database.tenant_transaction("north") as connection:
        key = create_key(connection, name="test", tenant="north", scopes=["write"])
    with TestClient(make_app(maintenance=False)) as client:
        for model in ("/etc", "/", "../../etc", "~", "org/not-pulled"):
            answer = client.post(
                "/api/v1/collections",
                json={"name": "docs", "embedding_model": model},
                headers={"Authorization": f"Bearer {key}"},
            )
            assert (answer.status_code, answer.json()["code"]) == (404, "invalid_request")
            assert str(models_folder()) not in answer.text


def test_metrics_ask_for_their_key_if_there_is_one(database_url: str, redis_url: str, tmp_path: Path) -> None:
    environment = Environment(data_dir=tmp_path, metrics_key=SecretStr("a-key"))
    services = configure_services(environment, database_url=database_url, redis_url=redis_url)
    with TestClient(make_app(maintenance=False)) as client:
        assert client.get("/metrics").status_code == 401
        assert client.get("/metrics", headers={"Authorization": "Bearer another"}).status_code == 401
        assert client.get("/metrics", headers={"Authorization": "Bearer a-key"}).status_code == 200
        assert client.get("/healthz").status_code == 200
    services.database.close()
