"""kill -9 of a parent: its processes end, whatever they wait in, and the next start serves."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from emberq.errors import DatabaseUnavailable
from emberq.system.machine import machine_identity
from emberq.system.processes import process_identity
from emberq.testing.ports import free_port
from tests.acceptance.test_kills import long_text
from tests.harness.eventually import LIMIT_SECONDS, eventually, scaled
from tests.harness.process_table import alive, family_of, title_of
from tests.harness.processes import RunningProgram, send
from tests.harness.stack import Stack

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a signal for it")

#: Seconds in which processes without a parent have to be gone: one is promised, and a machine may be busy.
_END_SECONDS = scaled(5.0)


def kinds(pid: int) -> dict[str, list[int]]:
    """Return the processes below one by their kind, e.g. `horse`; an engine's by the engine."""
    found: dict[str, list[int]] = {}
    for below in family_of(pid):
        title = title_of(below)
        kind = title.removeprefix("emberq: ").split()[0] if title.startswith("emberq:") else "engine"
        found.setdefault(kind, []).append(below)
    return found


def assert_gone(pids: list[int]) -> None:
    """Wait until processes that lost their parent have ended."""
    eventually(
        lambda: alive(pids),
        lambda left: not left,
        seconds=_END_SECONDS,
        told=lambda: str({pid: title_of(pid) for pid in alive(pids)}),
    )


@contextlib.contextmanager
def idle(_stack: Stack) -> Iterator[None]:
    """Have every process wait for work."""
    yield


@contextlib.contextmanager
def valkey_stopped(stack: Stack) -> Iterator[None]:
    """Have the workers wait for an answer of Valkey."""
    send(engine(stack, "valkey"), signal.SIGSTOP)
    yield


@contextlib.contextmanager
def valkey_away(stack: Stack) -> Iterator[None]:
    """Have the workers wait in their loops for Valkey to come back, which the supervisor does not notice."""
    send(stack.pid, signal.SIGSTOP)
    send(engine(stack, "valkey"), signal.SIGKILL)
    # RQ's loop sleeps between its attempts, the longer the more there were.
    time.sleep(1.5)
    yield


@contextlib.contextmanager
def postgres_stopped(stack: Stack) -> Iterator[None]:
    """Have a horse wait for PostgreSQL, which is stopped."""
    with stack.http() as client:
        stack.upload(client, "stopped.txt", long_text(400))
    stack.wait_for_event(event="stage_started", stage="embedding")
    send(engine(stack, "postgres"), signal.SIGSTOP)
    yield


@contextlib.contextmanager
def in_a_job(stack: Stack) -> Iterator[None]:
    """Have a horse wait for a lock in the middle of its job."""
    with pytest.raises(DatabaseUnavailable):  # noqa: PT012, SIM117 - it ends with the server
        with stack.nothing_stored(), stack.http() as client:
            stack.upload(client, "held.txt", b"Knots stand close together.")
            stack.wait_for_event(event="stage_started", stage="storing")
            yield


def engine(stack: Stack, name: str) -> int:
    """Return the process of an engine."""
    return int((stack.data_dir / f"{name}.pid").read_text().split()[0])


def test_all_end_with_up_whatever_they_wait_in_and_the_next_start_serves(tmp_path: Path) -> None:
    with Stack(tmp_path / "data", workers=2, port=free_port()).start() as stack:
        with stack.http() as client:
            client.post("/api/v1/collections", json={"name": "docs"}).raise_for_status()
        for wait in (idle, valkey_stopped, valkey_away, postgres_stopped, in_a_job):
            assert set(kinds(stack.pid)) == {"preloader", "reader", "api", "worker", "horse", "engine"}
            with wait(stack):
                family = stack.family()
                stack.kill()
                assert_gone(family)
            # On the same port and directory, without a pause.
            stack.start()
            with stack.http() as client:
                assert client.get("/readyz").status_code == 200


def test_a_horse_ends_with_its_worker_and_everything_forked_with_the_preloader(tmp_path: Path) -> None:
    with Stack(tmp_path / "data", workers=2).start() as stack:
        before = kinds(stack.pid)
        send(before["worker"][0], signal.SIGKILL)
        eventually(lambda: len(alive(before["horse"])) == 1, seconds=_END_SECONDS)
        eventually(lambda: len(kinds(stack.pid).get("horse", [])) == 2, seconds=LIMIT_SECONDS)
        before = kinds(stack.pid)
        send(before["preloader"][0], signal.SIGKILL)
        assert_gone([*before["horse"], *before["reader"], *before["api"]])
        eventually(lambda: len(kinds(stack.pid).get("horse", [])) == 2, seconds=LIMIT_SECONDS)


_LISTENER = """
import socket, sys
listener = socket.create_server(("127.0.0.1", 0))
print("at", listener.getsockname()[1], flush=True)
sys.stdin.read()
"""


def test_a_start_ends_what_remains_of_a_killed_one_and_nothing_else_at_its_port(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _LISTENER]
    with RunningProgram(command, log=tmp_path / "log", has_input=True) as holder:
        stack = Stack(tmp_path / "data", port=int(holder.wait_for_print(r"at (\d+)")[1]))
        with pytest.raises(AssertionError, match="Cannot listen on"):
            stack.start()
        assert alive([holder.pid])
        # As the supervisor that was killed would have recorded it.
        directory = tmp_path / "data" / "processes"
        directory.mkdir(parents=True)
        processes = [(999_999_999, "boot/1"), (holder.pid, process_identity(holder.pid))]
        text = json.dumps({"machine": machine_identity(), "processes": processes})
        (directory / f"{socket.gethostname()}-1.json").write_text(text)
        with stack.start(), stack.http() as client:
            assert not alive([holder.pid])
            assert client.get("/readyz").status_code == 200
        holder.was_killed = True
        assert not list(directory.iterdir())
