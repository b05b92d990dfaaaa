"""Secrets in the environment and in the settings of an installation show up nowhere outside of its memory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography.fernet import Fernet
from redis import Redis

from tests.harness.stack import Stack

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")

SECRETS = {
    "EMBERQ_SECRET_KEY": Fernet.generate_key().decode(),
    "EMBERQ_OPENWEBUI_API_KEY": "canary-owui-key",
    "EMBERQ_OPENWEBUI_PASSWORD": "canary-owui-password",
    "EMBERQ_OPENWEBUI_JWT_SECRET": "canary-owui-jwt-secret",
    "EMBERQ_API_KEY": "eq_canary-of-the-command-line",
}
PROVIDER_KEY = "sk-canary-of-the-provider"


def _of_processes(stack: Stack) -> Iterator[tuple[str, bytes]]:
    """Yield what other processes see of each process of the installation."""
    for pid in [stack.pid, *stack.family()]:
        for name in ("environ", "cmdline", "comm"):
            yield f"{pid}/{name}", Path(f"/proc/{pid}/{name}").read_bytes()


def _of_redis(stack: Stack) -> Iterator[tuple[str, bytes]]:
    connection: Any = Redis.from_url(stack.engines.redis_admin_url)
    for key in connection.scan_iter():
        yield f"Redis key {key!r}", key + (connection.dump(key) or b"")
    connection.close()


def test_canaries_are_found_in_memory_only(
    own_stack: Callable[..., Stack], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    stack = own_stack(workers=1, environment={**SECRETS, "TMPDIR": str(tmp_path / "tmp")})
    redis_password = urlsplit(stack.engines.redis_url).password
    assert redis_password
    secrets = [*SECRETS.values(), PROVIDER_KEY, stack.key, redis_password]
    told: list[tuple[str, bytes]] = []
    with stack.http() as client:
        change = {"values": {"rag_embedding_api_key": PROVIDER_KEY}}
        told.append(("answer", client.put("/api/v1/settings", json=change).content))
        told.append(("audit", client.get("/api/v1/audit").content))
        client.post("/api/v1/collections", json={"name": "docs"}).raise_for_status()
        answer = stack.upload(client, "a.txt", b"Nothing secret.").json()
        stack.wait(client, answer["job"]["id"])
        told.append(("metrics", client.get("/metrics").content))
        paths = ["/api/v1/nothing", "/api/v1/jobs?state=wrong", "/api/v1/keys", "/api/v1/settings/history"]
        told += [(path, client.get(path).content) for path in paths]
    told += [*_of_processes(stack), *_of_redis(stack)]
    limits = [Path(f"/proc/{pid}/limits").read_text() for pid in (stack.pid, *stack.family())]
    stack.stop()
    told += [("log", stack.log.read_bytes()), ("printed", stack.printed.encode())]
    told += [
        (str(path), path.read_bytes())
        for path in (tmp_path / "tmp").rglob("*")
        if path.is_file() and "emberq" in str(path)
    ]
    assert len(told) > 30

    found = [place for place, content in told for secret in secrets if secret.encode() in content]
    assert found == []
    core = [line for text in limits for line in text.splitlines() if line.startswith("Max core file size")]
    assert {tuple(line.split()[4:6]) for line in core} == {("0", "0")}
