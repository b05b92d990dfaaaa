"""WarmWorker as RQ's own command line starts it: one load, one horse, disposable."""

from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rq import Retry

from tests.harness import c_heap
from tests.harness.eventually import scaled
from tests.harness.process_table import alive
from tests.harness.workers import WorkerBench, stop_job, wait_for_status


@pytest.fixture
def bench(redis_url: str, tmp_path: Path) -> Iterator[WorkerBench]:
    with WorkerBench(redis_url, tmp_path, jobs="warm") as made:
        made.environment["WARM_JOBS_LOADS"] = str(tmp_path / "loads")
        yield made


def loads(bench: WorkerBench) -> list[str]:
    """Return the processes that loaded the model, one for each time."""
    return (bench.directory / "loads").read_text().split()


def test_fifty_jobs_run_in_one_horse_that_loaded_once(bench: WorkerBench) -> None:
    jobs = [bench.enqueue("where") for _ in range(50)]
    bench.burst()
    answers = {tuple(job.return_value() or ()) for job in jobs}
    assert len(answers) == 1
    [(horse, loader)] = answers
    assert horse != loader
    assert loads(bench) == [str(loader)]


def test_fifty_jobs_leave_descriptors_and_threads_as_they_were(bench: WorkerBench) -> None:
    jobs = [bench.enqueue("counts") for _ in range(50)]
    bench.burst()
    assert jobs[1].return_value() == jobs[49].return_value()


@pytest.mark.skipif(not c_heap.IS_TOLD, reason="only glibc tells what is in use")
def test_hundreds_of_jobs_leave_the_heap_as_it_was(bench: WorkerBench) -> None:
    # Each job has an id of its own, which is told in an environment variable.
    jobs = [bench.enqueue("heap") for _ in range(600)]
    bench.burst()
    before, after = jobs[99].return_value(), jobs[-1].return_value()
    assert before is not None
    assert after is not None
    # Kept, 500 ids would take 48,000.
    assert after - before < 20_000


def test_a_killed_horse_is_replaced_and_the_model_not_loaded_again(bench: WorkerBench) -> None:
    before, killed, after = bench.enqueue("where"), bench.enqueue("die"), bench.enqueue("where")
    bench.burst()
    assert killed.get_status() == "failed"
    first, second = before.return_value(), after.return_value()
    assert first is not None
    assert second is not None
    assert first[0] != second[0]
    assert first[1] == second[1]
    assert len(loads(bench)) == 1


def test_a_killed_job_is_retried_as_rq_promises(bench: WorkerBench) -> None:
    job = bench.enqueue("die", retry=Retry(max=2))
    bench.burst()
    assert job.get_status() == "failed"
    job.refresh()  # type: ignore[no-untyped-call]
    assert job.retries_left == 0


def test_an_exception_fails_the_job_and_keeps_the_horse(bench: WorkerBench) -> None:
    before, failing, after = bench.enqueue("where"), bench.enqueue("raise_error"), bench.enqueue("where")
    bench.burst()
    result = failing.latest_result()
    assert failing.get_status() == "failed"
    assert result is not None
    assert "as expected" in (result.exc_string or "")
    assert before.return_value() == after.return_value()


def test_a_job_over_its_time_fails_and_the_next_one_runs(bench: WorkerBench) -> None:
    slow = bench.enqueue("sleep", 30, job_timeout=1)
    after = bench.enqueue("where")
    bench.burst()
    assert slow.get_status() == "failed"
    assert after.get_status() == "finished"


def test_what_a_job_changed_is_put_back(bench: WorkerBench, tmp_path: Path) -> None:
    fresh = bench.enqueue("look_around")
    bench.enqueue("change_everything", str(tmp_path))
    after = bench.enqueue("look_around")
    bench.burst()
    assert after.return_value() == fresh.return_value()


@pytest.mark.parametrize("kind", ["socket", "thread"])
def test_a_leak_is_logged_and_ends_the_horse(bench: WorkerBench, kind: str) -> None:
    leaking, after = bench.enqueue("leak", kind), bench.enqueue("where")
    log = bench.burst()
    answer = after.return_value()
    assert answer is not None
    assert leaking.return_value() != answer[0]
    assert "job_leaked" in log


def test_what_the_scope_opened_is_closed(bench: WorkerBench, tmp_path: Path) -> None:
    jobs = [bench.enqueue("scoped", str(tmp_path / "file")) for _ in range(3)]
    log = bench.burst()
    assert len({job.return_value() for job in jobs}) == 1
    assert "job_leaked" not in log


def test_the_heartbeat_key_lives_while_the_worker_does(bench: WorkerBench) -> None:
    worker = bench.rq_worker("--name", "beating")
    bench.run("sleep", 0.2)
    beaten = int(bench.connection.get("worker:heartbeat:beating") or 0)
    assert abs(time.time() - beaten) < scaled(60)
    assert 0 < bench.connection.ttl("worker:heartbeat:beating") <= 60
    worker.stop()
    assert bench.connection.get("worker:heartbeat:beating") is None


def test_a_stop_command_ends_the_job_and_the_worker_goes_on(bench: WorkerBench) -> None:
    bench.rq_worker()
    job = bench.enqueue("sleep", 600)
    wait_for_status(job, "started", told=bench.log)
    assert stop_job(job) == "stopped"
    assert bench.run("where").get_status() == "finished"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_worker_takes_its_preloader_and_horse_with_it(bench: WorkerBench, number: signal.Signals) -> None:
    worker = bench.rq_worker()
    bench.answer("where")
    family = worker.family()
    assert len(family) >= 2
    worker.stop(number)
    assert alive(family) == []


def test_a_resource_that_fails_to_load_stops_the_worker_with_the_reason(bench: WorkerBench) -> None:
    bench.environment["EMBERQ_PRELOAD"] = "no_such_module_here"
    worker = bench.rq_worker("--burst")
    assert worker.wait() != 0
    assert "no_such_module_here" in worker.log


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells which signals a thread blocks")
def test_signals_go_to_the_main_thread_alone_so_that_it_can_block_them(bench: WorkerBench) -> None:
    worker = bench.rq_worker()
    wait_for_status(bench.enqueue("where"), "finished")
    others = [task for task in Path(f"/proc/{worker.pid}/task").iterdir() if task.name != str(worker.pid)]
    assert others
    for task in others:
        [mask] = re.findall(r"SigBlk:\s+(\w+)", (task / "status").read_text())
        blocked = {number for number in signal.Signals if int(mask, 16) >> (number - 1) & 1}
        assert {signal.SIGTERM, signal.SIGINT, signal.SIGALRM} <= blocked
