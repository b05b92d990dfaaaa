"""The checks of `emberq doctor`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from emberq.cli.client import NotReachable, Problem, connect
from emberq.cli.output import size
from emberq.config.environment import Environment, get_environment
from emberq.errors import EmberqError
from emberq.findings import Finding

#: Bytes of free disk below which `doctor` warns; an upload, its text and its index fit into them.
_LOW_DISK_BYTES = 2 * 1024**3
#: Seconds that PostgreSQL and Redis get to answer.
_ANSWER_SECONDS = 5


def run_checks() -> list[Finding]:
    """Check this machine and the servers of the environment; every problem is a finding, not an error."""
    environment = get_environment()
    return [check(environment) for check in _CHECKS]


def _check_data_dir(environment: Environment) -> Finding:
    path = environment.data_dir
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    if not os.access(existing, os.W_OK):
        return Finding(
            "data directory",
            "fail",
            f"{path} is not writable",
            "Set EMBERQ_DATA_DIR to a writable one.",
        )
    free = shutil.disk_usage(existing).free
    if free < _LOW_DISK_BYTES:
        return Finding(
            "data directory", "warning", f"{path}: only {size(free)} free", "Free space on its disk."
        )
    return Finding("data directory", "ok", f"{path}, {size(free)} free")


def _check_model(_environment: Environment) -> Finding:
    from emberq.models.files import find_model, verify_model

    try:
        files = find_model()
        verify_model(files)
    except EmberqError as exc:
        return Finding("model", "fail", exc.message, exc.hint)
    return Finding("model", "ok", f"{files.name}, its files are undamaged")


def _check_ocr(_environment: Environment) -> Finding:
    from emberq.pipeline.extract.layout.ocr import is_installed

    if is_installed():
        return Finding("OCR", "ok", "installed; the setting ocr_enabled switches it")
    return Finding("OCR", "ok", "not installed: scans have no text; emberq[ocr] reads them")


def _check_database(environment: Environment) -> Finding:
    if environment.database_url is None:
        return Finding("PostgreSQL", "ok", "embedded (EMBERQ_DATABASE_URL is not set)")
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import SQLAlchemyError

    from emberq.store.roles import bypasses_row_security, words_use_index

    engine = create_engine(
        environment.database_url.get_secret_value(), connect_args={"connect_timeout": _ANSWER_SECONDS}
    )
    try:
        with engine.connect() as connection:
            version = connection.execute(text("SHOW server_version")).scalar_one()
            vector = connection.execute(
                text("SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'")
            ).scalar_one()
            is_bypassed, role = bypasses_row_security(connection), engine.url.username
            is_indexed = words_use_index(connection)
    except SQLAlchemyError as exc:
        reason = str(getattr(exc, "orig", None) or type(exc).__name__).splitlines()[0]
        return Finding(
            "PostgreSQL", "fail", f"no answer: {reason}", "Check EMBERQ_DATABASE_URL and the server."
        )
    finally:
        engine.dispose()
    if not vector:
        return Finding("PostgreSQL", "fail", f"{version} without pgvector", "Install pgvector on the server.")
    if is_bypassed:
        return Finding(
            "PostgreSQL",
            "warning",
            f"the role {role} is a superuser or has BYPASSRLS: row-level security does not hold for it",
            "Use a role without these rights; see docs/how-to/own-servers.md.",
        )
    if not is_indexed:
        return Finding(
            "PostgreSQL",
            "warning",
            "keyword search cannot use its index",
            "Let a superuser run: ALTER FUNCTION pg_catalog.ts_match_vq(tsvector, tsquery) LEAKPROOF;",
        )
    return Finding("PostgreSQL", "ok", f"{version} with pgvector")


def _check_redis(environment: Environment) -> Finding:
    if environment.redis_url is None:
        return Finding("Redis", "ok", "embedded Valkey (EMBERQ_REDIS_URL is not set)")
    from redis import Redis
    from redis.exceptions import RedisError

    client = Redis.from_url(environment.redis_url, socket_timeout=_ANSWER_SECONDS)
    try:
        info = client.info("server")
    except RedisError as exc:
        return Finding(
            "Redis", "fail", f"no answer: {type(exc).__name__}", "Check EMBERQ_REDIS_URL and the server."
        )
    finally:
        client.close()
    return Finding("Redis", "ok", f"{info.get('valkey_version') or info.get('redis_version')}")


def _check_api(environment: Environment) -> Finding:
    try:
        with connect() as client:
            client.get("//healthz")
            ready = client.get("//readyz")
            if environment.api_key is None:
                return Finding("API", "warning", "it answers, but no API key is set", "Set EMBERQ_API_KEY.")
            client.get("/stats")
    except NotReachable as exc:
        return Finding("API", "warning", exc.message, exc.hint)
    except Problem as exc:
        return Finding("API", "fail", f"{exc.message} ({exc.code})", exc.hint)
    return Finding("API", "ok", ", ".join(f"{name} {answer}" for name, answer in ready["checks"].items()))


def _check_memory(_environment: Environment) -> Finding:
    shared = Path("/dev/shm")  # noqa: S108 - PostgreSQL's place for shared memory
    if not shared.is_dir():
        return Finding("shared memory", "ok", "not needed here")
    free = shutil.disk_usage(shared).free
    if free < 64 * 1024**2:
        fix = "Give the container more, e.g. --shm-size=256m."
        return Finding("shared memory", "warning", f"only {size(free)} free in {shared}", fix)
    return Finding("shared memory", "ok", f"{size(free)} free")


def _check_sandbox(environment: Environment) -> Finding:
    from emberq.pipeline.sandbox.reader_handle import start_reader

    try:
        reader = start_reader()
    except EmberqError as exc:
        return Finding("sandbox", "fail", exc.message, exc.hint)
    reader.close()
    if not reader.missing:
        return Finding("sandbox", "ok", f"files are read behind {reader.protections}")
    lacks = f"without {' and '.join(reader.missing)}; there is {reader.protections}"
    fix = "Use a Linux kernel of 5.13 or newer that has Landlock and seccomp."
    return Finding("sandbox", "fail" if environment.sandbox == "require" else "warning", lacks, fix)


_CHECKS: tuple[Callable[[Environment], Finding], ...] = (
    _check_data_dir,
    _check_memory,
    _check_model,
    _check_ocr,
    _check_sandbox,
    _check_database,
    _check_redis,
    _check_api,
)
