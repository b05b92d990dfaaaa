from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import pytest

from emberq.worker.job.policy import HorsePolicy


def test_without_variables_a_policy_has_its_defaults() -> None:
    assert HorsePolicy.from_environment({}) == HorsePolicy()


def test_each_field_is_read_from_a_variable() -> None:
    given = HorsePolicy(5, 1024, 1.5, 2048, 2.5, 3, 0.5)
    variables = {f"EMBERQ_{name.upper()}": str(value) for name, value in asdict(given).items()}
    assert HorsePolicy.from_environment(variables) == given


@pytest.mark.parametrize("value", ["", "many", "-1", "1.5"])
def test_a_variable_that_is_no_number_of_its_kind_is_named(value: str) -> None:
    with pytest.raises(ValueError, match="EMBERQ_HORSE_MAX_JOBS must be a number of at least 0"):
        HorsePolicy.from_environment({"EMBERQ_HORSE_MAX_JOBS": value})


def test_a_job_may_set_its_own_limits() -> None:
    policy = HorsePolicy(horse_max_jobs=7, stall_timeout=300.0)
    changed = policy.for_job({"emberq": {"stall_timeout": 5, "job_memory_limit": "4096"}})
    assert (changed.stall_timeout, changed.job_memory_limit, changed.horse_max_jobs) == (5.0, 4096, 7)
    assert policy.for_job({}) is policy


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"horse_max_jobs": 1}, "cannot set horse_max_jobs; it can set job_cpu_limit, job_max_processes"),
        ({"job_memory_limit": "much"}, r"meta\['emberq'\]\['job_memory_limit'\] must be a number"),
        ({"stall_timeout": math.nan}, r"meta\['emberq'\]\['stall_timeout'\] must be a number"),
        ({"job_memory_limit": math.inf}, r"meta\['emberq'\]\['job_memory_limit'\] must be a number"),
        ({"stall_timeout": -1}, r"meta\['emberq'\]\['stall_timeout'\] must be a number"),
    ],
)
def test_a_job_cannot_set_other_limits_or_anything_but_numbers(own: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HorsePolicy().for_job({"emberq": own})
