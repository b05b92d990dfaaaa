"""What each kind of process has open: only what it needs, and only the API holds the API's door."""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from pathlib import Path

import pytest

from emberq.testing.ports import free_port
from tests.harness.descriptors import describe, held_by_several
from tests.harness.eventually import eventually
from tests.harness.process_table import alive, family_of, title_of
from tests.harness.processes import send
from tests.harness.stack import Stack
from tests.harness.workers import WorkerBench

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0,
    reason="/proc tells it, of processes with secrets to root only",
)

#: What each kind of process may have open besides standard input, output and error.
ALLOWED = {
    "supervisor": {"lock of emberq", "lock of emberq-metrics", "metrics", "socket"},
    "preloader": {"lock of emberq-jobs", "metrics", "socket", "pipe", "eventpoll"},
    # The pipe leads to RQ's scheduler; into the file without a name the horse writes its stacks.
    "worker": {"lock of emberq-metrics", "metrics", "socket", "pidfd", "file without a name", "pipe"},
    "horse": {"metrics", "socket", "file without a name"},
    # RQ's; it counts nothing, so it keeps what its worker had.
    "scheduler": {"metrics of another process", "socket", "pipe", "pidfd"},
    "api": {"metrics", "socket", "eventpoll"},
    "metrics": {"metrics", "socket", "eventpoll"},
    "reader": {"socket", "pipe", "eventpoll"},
}
#: Where one socket may be open in several: that over which horses ask the reader, from the preloader.
ASKS_READER = {"preloader", "horse"}


def ours(pid: int) -> dict[int, str]:
    """Return the kinds of a program's processes, engines left out."""
    titles = {one: title_of(one) for one in (pid, *family_of(pid))}
    return {
        # RQ's scheduler has the title that its worker had when it forked it.
        one: "scheduler" if "slot" in title or "/rq " in title else title.split()[1]
        for one, title in titles.items()
        if title.startswith("emberq:") or "/rq " in title
    }


def check(pid: int, *kinds: str, ports: dict[str, int]) -> None:
    """Wait until a program has these kinds of processes, and compare what they have open with the table."""

    def look() -> list[str]:
        found = ours(pid)
        if sorted(found.values()) != sorted(kinds):
            return [f"there are {sorted(found.values())}"]
        beyond = [
            f"{kind} has {what}"
            for one, kind in found.items()
            for what in describe(one) - ALLOWED[kind] - {f"port {ports.get(kind)}"}
        ]
        closed = [
            f"{kind} does not listen"
            for one, kind in found.items()
            if kind in ports and f"port {ports[kind]}" not in describe(one)
        ]
        several = {what: [found[one] for one in held] for what, held in held_by_several(found).items()}
        shared = [f"{held} have {what}" for what, held in several.items() if not set(held) <= ASKS_READER]
        return [*beyond, *closed, *shared]

    # One may be on its way: the first count opens a process's metrics, a fork is followed by closing.
    eventually(look, lambda wrong: not wrong)


def test_each_process_of_up_has_open_what_it_needs_also_one_that_replaced_another(tmp_path: Path) -> None:
    ports = {"api": free_port(), "metrics": free_port()}
    kinds = ("supervisor", "preloader", "reader", "api", "metrics", "worker", "worker", "horse", "horse")
    environment = {"EMBERQ_METRICS_PORT": str(ports["metrics"])}
    with Stack(tmp_path / "data", workers=2, port=ports["api"], environment=environment).start() as stack:
        check(stack.pid, *kinds, ports=ports)
        # By now the supervisor has connections, which those that it forks must not keep.
        for kind in ("worker", "preloader"):
            victim = next(one for one, named in ours(stack.pid).items() if named == kind)
            send(victim, signal.SIGKILL)
            eventually(partial(alive, [victim]), lambda left: not left)
            check(stack.pid, *kinds, ports=ports)
        with stack.http() as client:
            assert client.get("/readyz").status_code == 200


def test_each_process_of_emberq_worker_has_open_what_it_needs(redis_url: str, tmp_path: Path) -> None:
    ports = {"metrics": free_port()}
    with WorkerBench(redis_url, tmp_path, jobs="warm") as bench:
        bench.environment["EMBERQ_METRICS_PORT"] = str(ports["metrics"])
        program = bench.emberq_worker("--with-scheduler")
        workers = ("worker", "worker", "horse", "horse", "scheduler")
        check(program.pid, "supervisor", "preloader", "metrics", *workers, ports=ports)


def test_each_process_of_rq_worker_has_open_what_it_needs(redis_url: str, tmp_path: Path) -> None:
    ports = {"metrics": free_port()}
    with WorkerBench(redis_url, tmp_path, jobs="warm") as bench:
        bench.environment["EMBERQ_METRICS_PORT"] = str(ports["metrics"])
        program = bench.rq_worker("--with-scheduler")
        check(program.pid, "worker", "scheduler", "preloader", "metrics", "horse", ports=ports)
