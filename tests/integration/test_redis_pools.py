"""Warm workers over every kind of connection: plain, TLS, Unix socket, ACL user, Sentinel with a failover."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import os
import ssl
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from redis import Redis
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer

from emberq.embedded.valkey_users import RULES
from emberq.redis_pools import close_redis_pools, connected_sockets, get_redis_pool
from emberq.retry.classify import ErrorKind, classify_redis_error
from emberq.retry.operation import retry_redis_operation
from emberq.testing.ports import free_port
from emberq.testing.proxy import TcpProxy
from emberq.testing.valkey import ValkeyServer
from tests.harness.eventually import LIMIT_SECONDS, eventually
from tests.harness.paths import DOCS, python_path
from tests.harness.processes import RunningProgram
from tests.harness.workers import ENDED, stop_job, wait_for_status


@pytest.fixture(autouse=True)
def pools() -> Iterator[None]:
    yield
    close_redis_pools()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    with ValkeyServer(tmp_path / "valkey") as running:
        yield running


@pytest.fixture
def run_worker(tmp_path: Path) -> Callable[..., RunningProgram]:
    """Start `pooled_worker` for a URL, as a context manager."""

    def run(url: str, *options: str) -> RunningProgram:
        return RunningProgram(
            [sys.executable, "-m", "tests.jobs.pooled_worker", url, *options],
            environment={**os.environ, "EMBERQ_PRELOAD": "tests.jobs.warm", "PYTHONPATH": python_path()},
            log=tmp_path / "log",
        )

    return run


def queue(url: str) -> Queue:
    connection = Redis(connection_pool=get_redis_pool("worker", url))
    return Queue("warm", connection=connection, serializer=JSONSerializer)


@pytest.fixture
def run_the_round(run_worker: Callable[..., RunningProgram]) -> Callable[[str], None]:
    """Jobs, a stop command over pub/sub, a scheduled job, a killed horse: all that a worker does."""

    def run(url: str) -> None:
        jobs = queue(url)
        with run_worker(url, "--with-scheduler") as worker:
            first = jobs.enqueue("tests.jobs.warm.where")
            assert ended(first, worker) == "finished"
            killed, after = jobs.enqueue("tests.jobs.warm.die"), jobs.enqueue("tests.jobs.warm.where")
            assert ended(killed, worker) == "failed"
            assert ended(after, worker) == "finished"
            endless = jobs.enqueue("tests.jobs.warm.sleep", 600)
            wait_for_status(endless, "started", told=lambda: worker.log)
            assert stop_job(endless) == "stopped"
            later = jobs.enqueue_in(dt.timedelta(seconds=1), "tests.jobs.warm.where")
            assert ended(later, worker) == "finished"
            assert worker.is_running

    return run


def ended(job: Job, worker: RunningProgram) -> str:
    """Wait until a job has ended, whatever becomes of its server meanwhile, and return its status."""
    return wait_for_status(job, *ENDED, despite=redis.RedisError, told=lambda: worker.log)


def test_a_plain_connection(server: ValkeyServer, run_the_round: Callable[[str], None]) -> None:
    run_the_round(server.url)


def test_a_unix_socket(tmp_path: Path, run_the_round: Callable[[str], None]) -> None:
    path = tmp_path / "s"
    with ValkeyServer(tmp_path / "valkey", options={"unixsocket": str(path)}):
        run_the_round(f"unix://{path}?db=1")


class Authority:
    """A certificate authority of the test's own."""

    def __init__(self, directory: Path) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "emberq test authority")])
        self.directory = directory
        self.file = directory / "ca.pem"
        self.file.write_bytes(
            self._sign(self.name, self.key.public_key(), is_authority=True).public_bytes(
                serialization.Encoding.PEM
            )
        )

    def context(self) -> ssl.SSLContext:
        """Return a server context with a certificate for 127.0.0.1."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
        chain = self.directory / "server.pem"
        chain.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + self._sign(subject, key.public_key(), is_authority=False).public_bytes(
                serialization.Encoding.PEM
            )
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        return context

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, is_authority: bool
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=is_authority,
            crl_sign=is_authority,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(minutes=5))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
                critical=False,
            )
            .sign(self.key, hashes.SHA256())
        )


def test_tls_with_an_authority_named_in_the_url(
    server: ValkeyServer, tmp_path: Path, run_the_round: Callable[[str], None]
) -> None:
    authority = Authority(tmp_path)
    with TcpProxy(("127.0.0.1", server.port), tls=authority.context()) as proxy:
        run_the_round(f"rediss://127.0.0.1:{proxy.port}/0?ssl_ca_certs={authority.file}")
        assert proxy.accepted > 0


def test_a_server_of_an_unknown_authority_is_refused_at_once(server: ValkeyServer, tmp_path: Path) -> None:
    with TcpProxy(("127.0.0.1", server.port), tls=Authority(tmp_path).context()) as proxy:
        client = Redis(connection_pool=get_redis_pool("client", f"rediss://127.0.0.1:{proxy.port}/0"))
        with pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED") as caught:
            client.ping()
    assert classify_redis_error(caught.value) is ErrorKind.PERMANENT


def documented_rules() -> list[str]:
    """The access list of the documentation: it is the one that is tested."""
    page = (DOCS / "how-to" / "redis-access.md").read_text()
    block = page.split("```")[1]
    return block.replace("\\\n", " ").split()[4:]


def test_the_documented_access_list_is_enough_for_a_worker(
    server: ValkeyServer, run_the_round: Callable[[str], None]
) -> None:
    with Redis(port=server.port, decode_responses=True) as admin:
        admin.execute_command("ACL", "SETUSER", "worker", "on", ">se:cr/et", *documented_rules())
        run_the_round(f"redis://worker:{quote('se:cr/et', safe='')}@127.0.0.1:{server.port}/0")
        assert admin.acl_log() == []


def test_the_embedded_valkey_has_the_documented_access_list() -> None:
    assert documented_rules()[1:] == list(RULES)


def test_the_documented_access_list_allows_nothing_else(server: ValkeyServer) -> None:
    with Redis(port=server.port) as admin:
        admin.execute_command("ACL", "SETUSER", "worker", "on", ">x", *documented_rules())
    user = Redis(connection_pool=get_redis_pool("client", f"redis://worker:x@127.0.0.1:{server.port}/0"))
    for forbidden in (
        ["SET", "other", "1"],
        ["KEYS", "*"],
        ["FLUSHALL"],
        ["CONFIG", "GET", "*"],
        ["ACL", "LIST"],
    ):
        with pytest.raises(redis.exceptions.NoPermissionError):
            user.execute_command(*forbidden)  # type: ignore[no-untyped-call]


def test_a_wrong_password_is_not_tried_again(tmp_path: Path) -> None:
    with (
        ValkeyServer(tmp_path / "locked", options={"requirepass": "right"}) as locked,
        Redis(port=locked.port, password="right") as admin,
    ):
        before = admin.info("stats")["total_connections_received"]
        client = Redis(connection_pool=get_redis_pool("client", f"redis://:wrong@127.0.0.1:{locked.port}/0"))
        with pytest.raises(redis.AuthenticationError):
            client.ping()
        assert admin.info("stats")["total_connections_received"] == before + 1


class Cluster:
    """A primary, a replica and a Sentinel that watches them."""

    def __init__(self, tmp: Path, stack: contextlib.ExitStack) -> None:
        login = {"requirepass": "secret", "masterauth": "secret"}
        self.primary = stack.enter_context(ValkeyServer(tmp / "primary", options=login))
        self.replica = stack.enter_context(
            ValkeyServer(tmp / "replica", options={**login, "replicaof": f"127.0.0.1 {self.primary.port}"})
        )
        lines = [
            f"sentinel monitor mymaster 127.0.0.1 {self.primary.port} 1",
            "sentinel auth-pass mymaster secret",
            "sentinel down-after-milliseconds mymaster 500",
            "sentinel failover-timeout mymaster 3000",
        ]
        self.sentinel = stack.enter_context(ValkeyServer(tmp / "sentinel", sentinel="\n".join(lines)))
        with Redis(port=self.sentinel.port, decode_responses=True) as watcher:
            eventually(lambda: watcher.sentinel_slaves("mymaster"))
        # A Sentinel that does not answer comes first: the next one is asked.
        self.url = (
            f"redis+sentinel://:secret@127.0.0.1:{free_port()},127.0.0.1:{self.sentinel.port}/mymaster/0"
        )


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with contextlib.ExitStack() as stack:
        yield Cluster(tmp_path, stack)


def test_a_sentinel_leads_to_the_primary(cluster: Cluster, run_the_round: Callable[[str], None]) -> None:
    run_the_round(cluster.url)


@pytest.mark.slow
def test_jobs_go_on_after_the_primary_was_killed(
    cluster: Cluster, run_worker: Callable[..., RunningProgram], tmp_path: Path
) -> None:
    jobs, may_end = queue(cluster.url), tmp_path / "may end"

    @retry_redis_operation(idempotent=True, max_retries=50, total_seconds=LIMIT_SECONDS)
    def enqueue() -> Job:
        return jobs.enqueue("tests.jobs.warm.where")

    with run_worker(cluster.url) as worker:
        assert ended(enqueue(), worker) == "finished"
        running = jobs.enqueue("tests.jobs.warm.wait_for_file", str(may_end))
        wait_for_status(running, "started", told=lambda: worker.log)
        eventually(lambda: jobs.connection.wait(1, 1000))
        cluster.primary.kill()
        after = enqueue()
        may_end.touch()
        assert ended(after, worker) == "finished"
        assert ended(running, worker) == "finished"
        assert worker.is_running
    with Redis(port=cluster.replica.port, password="secret") as promoted:
        assert promoted.info("replication")["role"] == "master"


def test_a_sentinel_url_without_a_service_is_refused() -> None:
    with pytest.raises(ValueError, match="mymaster"):
        get_redis_pool("worker", "redis+sentinel://127.0.0.1:26379/")


def test_a_new_connection_does_not_read_the_metadata_of_redis_py_again(
    server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    get_redis_pool("worker", server.url)
    monkeypatch.setattr(
        "importlib.metadata.version", lambda name: pytest.fail(f"read the metadata of {name}")
    )
    client = Redis(connection_pool=get_redis_pool("worker", server.url))
    assert client.client_info()["lib-name"] == "redis-py"


def test_a_process_has_one_pool_per_profile_and_server(server: ValkeyServer) -> None:
    pools = {get_redis_pool("worker", server.url) for _ in range(50)}
    assert len(pools) == 1
    assert get_redis_pool("client", server.url) not in pools
    assert get_redis_pool("worker", f"{server.url}/1") not in pools


def test_a_pool_is_bounded_and_says_so(server: ValkeyServer) -> None:
    client = get_redis_pool("client", server.url)
    worker_pool = get_redis_pool("worker", server.url)
    held = [worker_pool.get_connection() for _ in range(10)]
    with pytest.raises(redis.exceptions.MaxConnectionsError):
        worker_pool.get_connection()
    assert connected_sockets(worker_pool) == 10
    for connection in held:
        worker_pool.release(connection)
    assert (client.max_connections, connected_sockets(client)) == (16, 0)


def test_a_forked_child_opens_connections_of_its_own_and_leaves_the_parents_alone(
    server: ValkeyServer,
) -> None:
    parent = Redis(connection_pool=get_redis_pool("worker", server.url))
    ours = parent.client_id()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            inherited = connected_sockets(parent.connection_pool)
            own = Redis(connection_pool=get_redis_pool("worker", server.url))
            os.write(
                writer,
                f"{inherited} {own.client_id()} {own.connection_pool is parent.connection_pool}".encode(),
            )
            code = 0
        finally:
            os._exit(code)
    os.waitpid(pid, 0)
    os.close(writer)
    kept, theirs, same = os.read(reader, 4096).decode().split()
    os.close(reader)
    assert (kept, same) == ("0", "False")
    assert int(theirs) != ours
    assert parent.client_id() == ours
