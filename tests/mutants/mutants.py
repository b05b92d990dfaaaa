"""The mutants: emberq with one of its ten mechanisms taken out, one mutant for each of the ten findings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["MUTANTS", "Edit", "Mutant"]


@dataclass(frozen=True, slots=True)
class Edit:
    """One replacement of text in a file.

    Attributes:
        file: The file, from the repository's root.
        old: What stands there, exactly once.
        new: What stands there in the mutant.
    """

    file: str
    old: str
    new: str

    def apply(self, root: Path) -> str:
        """Change the file below `root` and return what it was.

        Raises:
            ValueError: If the old text is not there exactly once: the code has changed, the edit must too.
        """
        path = root / self.file
        before = path.read_text(encoding="utf-8")
        if (count := before.count(self.old)) != 1:
            raise ValueError(f"{self.file} has this text {count} times instead of once:\n{self.old}")
        path.write_text(before.replace(self.old, self.new), encoding="utf-8")
        return before


@dataclass(frozen=True, slots=True)
class Mutant:
    """emberq without one mechanism.

    Attributes:
        finding: The number of the finding, 1 to 10.
        without: What the mutant does instead.
        edits: How the mechanism is taken out.
        tests: The tests that have to fail, all of them.
    """

    finding: int
    without: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]


MUTANTS = (
    Mutant(
        1,
        "the end of a job closes nothing, and cleans nothing that the job left open",
        (
            Edit(
                "src/emberq/worker/job/scope.py",
                "        end.push(lambda _type, exc, _traceback: scope.close(exc))\n",
                "",
            ),
            Edit(
                "src/emberq/worker/job/scope.py",
                "        end.callback(lambda: _count_leaks(scope, before, temporary) if is_alone() else None)\n",
                "",
            ),
        ),
        (
            "tests/unit/worker/job/test_scope.py::test_everything_is_closed_in_reverse_order_whatever_fails",
            "tests/integration/worker/job/test_cleanup.py::test_what_can_be_cleaned_is_counted_and_cleaned_and_the_horse_stays[file-temporary_files]",
        ),
    ),
    Mutant(
        2,
        "the configuration is built anew whenever it is asked for",
        (Edit("src/emberq/config/cache.py", "            if stored is None:\n", "            if True:\n"),),
        (
            "tests/unit/config/test_cache.py::test_fifty_jobs_build_the_configuration_once",
            "tests/integration/config/test_config_in_jobs.py::test_a_horse_builds_each_version_once_and_none_that_its_preloader_had",
        ),
    ),
    Mutant(
        3,
        "each use of a resource loads it",
        (
            Edit(
                "src/emberq/worker/resources/resources.py",
                "                if self.record is None:\n                    self._make()\n",
                "                self._make()\n",
            ),
            Edit(
                "src/emberq/worker/resources/resources.py",
                "        if self.record is None:\n            self._refuse_before_fork()\n",
                "        if True:\n            self._refuse_before_fork()\n",
            ),
        ),
        (
            "tests/unit/worker/resources/test_resources.py::test_a_resource_is_loaded_once_however_often_it_is_used",
            "tests/integration/worker/test_warm_worker.py::test_fifty_jobs_run_in_one_horse_that_loaded_once",
        ),
    ),
    Mutant(
        4,
        "each caller gets a pool of its own",
        (Edit("src/emberq/redis_pools.py", "        if pool is None:\n", "        if True:\n"),),
        ("tests/integration/test_redis_pools.py::test_a_process_has_one_pool_per_profile_and_server",),
    ),
    Mutant(
        5,
        "no operation is tried again",
        (
            Edit(
                "src/emberq/retry/operation.py",
                "            self._pause = self._next_pause()\n",
                "            self._pause = None\n",
            ),
        ),
        (
            "tests/integration/retry/test_database.py::test_two_transactions_in_a_deadlock_both_succeed",
            "tests/integration/retry/test_database.py::test_a_cut_connection_is_retried_if_idempotent",
        ),
    ),
    Mutant(
        6,
        "an announced change of the settings is not heard",
        (
            Edit(
                "src/emberq/config/newest_version.py",
                "        if version > self.version:\n",
                "        if False:\n",
            ),
        ),
        (
            "tests/unit/config/test_cache.py::test_an_announced_version_is_loaded_by_the_next_call",
            "tests/integration/dispatch/test_settings_listener.py::test_a_pushed_change_is_in_the_snapshot_within_a_quarter_of_a_second",
        ),
    ),
    Mutant(
        7,
        "no heartbeat is written, and a job without progress is not ended",
        (
            Edit(
                "src/emberq/worker/rq/heartbeat.py",
                "    connection.set(heartbeat_key(worker_name), int(time.time()), ex=HEARTBEAT_TTL_SECONDS)\n",
                "",
            ),
            Edit(
                "src/emberq/worker/horse/watchdog.py",
                "        if self.policy.stall_timeout and silent_seconds >= self.policy.stall_timeout:\n",
                "        if False:\n",
            ),
        ),
        (
            "tests/unit/worker/horse/test_watchdog.py::test_a_job_without_progress_is_stalled_after_its_time",
            "tests/integration/worker/test_warm_worker.py::test_the_heartbeat_key_lives_while_the_worker_does",
        ),
    ),
    Mutant(
        8,
        "a horse is kept however much its memory grows",
        (
            Edit(
                "src/emberq/worker/horse/replacement.py",
                '        return "memory"\n',
                "        return None\n",
            ),
        ),
        (
            "tests/unit/worker/horse/test_lifecycle.py::test_a_horse_that_has_grown_is_replaced_but_not_more_often_than_every_30_seconds",
            "tests/integration/worker/horse/test_watchdog.py::test_a_horse_that_has_grown_is_replaced_without_loading_again",
        ),
    ),
    Mutant(
        9,
        "an error has no hint, and a failed attempt leaves neither stage nor attempt",
        (
            Edit(
                "src/emberq/errors/base.py",
                "        self.hint = self.default_hint if hint is None else hint\n",
                '        self.hint = ""\n',
            ),
            Edit(
                "src/emberq/store/jobs/finish.py",
                '    where = {"stage": stage or job.stage, "attempt": job.attempt, "at": job.now.isoformat()}\n',
                '    where = {"at": job.now.isoformat()}\n',
            ),
        ),
        (
            "tests/unit/test_errors.py::test_every_error_says_what_happened_and_what_to_do",
            "tests/integration/store/jobs/test_finish.py::test_the_reasons_of_all_attempts_are_kept_also_when_the_last_one_succeeds",
        ),
    ),
    Mutant(
        10,
        "log records lack the job's fields, and no job is counted or measured",
        (
            Edit(
                "src/emberq/telemetry/logs.py",
                "        structlog.contextvars.merge_contextvars,\n        structlog.stdlib.add_log_level,\n        structlog.stdlib.add_logger_name,\n",
                "        structlog.stdlib.add_log_level,\n        structlog.stdlib.add_logger_name,\n",
            ),
            Edit(
                "src/emberq/telemetry/metrics.py",
                "    metric = _state.metrics.get(name)\n",
                "    metric = None\n",
            ),
        ),
        (
            "tests/unit/telemetry/test_logs.py::test_records_are_json_with_the_bound_job_and_without_secrets",
            "tests/integration/worker/test_metrics.py::test_what_jobs_did_is_counted_and_served",
        ),
    ),
)
