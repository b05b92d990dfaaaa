"""Enqueueing a file of Open WebUI: once, under an id of its own, with what a killed worker needs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis
from rq.job import Job, JobStatus
from rq.queue import Queue

from emberq.openwebui.enqueue import enqueue_file, fail_stopped_file


@pytest.fixture
def queue(redis_url: str) -> Iterator[Queue]:
    connection = Redis.from_url(redis_url)
    yield Queue("files", connection=connection)
    connection.close()


def test_the_same_work_is_enqueued_once(queue: Queue) -> None:
    first = enqueue_file(queue, "f1")
    assert enqueue_file(queue, "f1").id == first.id
    assert enqueue_file(queue, "f1", knowledge_id="k1").id != first.id
    assert enqueue_file(queue, "f1", content="a text").id != first.id
    assert enqueue_file(queue, "f2").id != first.id
    assert len(queue) == 4


def test_work_that_has_ended_may_be_done_again(queue: Queue) -> None:
    for ended in (JobStatus.FINISHED, JobStatus.FAILED, JobStatus.STOPPED, JobStatus.CANCELED):
        job = enqueue_file(queue, "f1")
        queue.remove(job)
        job.set_status(ended)
        assert enqueue_file(queue, "f1").get_status() is JobStatus.QUEUED
        assert len(queue) == 1


def test_one_delivery_is_kept_for_writing_down_the_end(queue: Queue) -> None:
    job = enqueue_file(queue, "f1", max_attempts=2, timeout_seconds=60)
    assert job.retries_left == 2
    assert job.meta["emberq_max_attempts"] == 2
    assert job.timeout == 60


def test_a_text_does_not_appear_in_descriptions(queue: Queue) -> None:
    job = enqueue_file(queue, "f1", content="private words")
    assert job.description == "process Open WebUI file f1"


def test_a_stopped_file_is_failed_before_all_else(queue: Queue) -> None:
    stopped = enqueue_file(queue, "f1")
    fail_stopped_file(stopped, queue.connection)
    failing = Job.fetch(queue.job_ids[0], connection=queue.connection)
    assert failing.func_name == "emberq.openwebui.warm.fail_file_job"
    assert tuple(failing.args) == ("f1", "cancelled")
