"""Horse policy: the limits of a horse and of the jobs that it runs."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

#: The key in an RQ job's `meta` under which the job sets limits of its own.
META_KEY = "emberq"
#: Limits that a job's `meta` may set; the others belong to the horse.
_PER_JOB = frozenset({"stall_timeout", "job_memory_limit", "job_cpu_limit", "job_max_processes"})


@dataclass(frozen=True, slots=True)
class HorsePolicy:
    """Limits of a horse and its jobs; 0 means no limit.

    `emberq worker` and `rq worker -w emberq.WarmWorker` read each field from `EMBERQ_` plus its name in
    upper case; the document service takes them from its settings.

    Attributes:
        horse_max_jobs: Jobs a horse runs before it is replaced.
        horse_max_memory_growth: Bytes its private memory may grow after its first jobs before it is replaced.
        stall_timeout: Seconds a job may run without `progress()` before its horse is ended.
        job_memory_limit: Bytes of address space a job may add to what the horse has.
        job_cpu_limit: Seconds of processor time a job may use.
        job_max_processes: Processes a job may have at once, including the horse.
        shutdown_grace: Seconds a running job gets after SIGTERM before it is requeued.
    """

    horse_max_jobs: int = 1000
    horse_max_memory_growth: int = 512 * 1024 * 1024
    stall_timeout: float = 0.0
    job_memory_limit: int = 0
    job_cpu_limit: float = 0.0
    job_max_processes: int = 0
    shutdown_grace: float = 0.0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read the policy from `EMBERQ_*` variables.

        Raises:
            ValueError: If a variable is not a number of its kind, or is negative; the message names it.
        """
        values: dict[str, float] = {}
        for field in fields(cls):
            name = f"EMBERQ_{field.name.upper()}"
            if name in environment:
                values[field.name] = _number(name, environment[name], type(field.default))
        return cls(**values)  # type: ignore[arg-type]

    def for_job(self, meta: Mapping[str, Any]) -> Self:
        """Return the policy with the limits that a job's `meta[META_KEY]` sets.

        Raises:
            ValueError: If it names an unknown limit, or sets one to anything but a number.
        """
        own = meta.get(META_KEY)
        if not own:
            return self
        unknown = sorted(set(own) - _PER_JOB)
        if unknown:
            msg = (
                f"meta[{META_KEY!r}] cannot set {', '.join(unknown)}; "
                f"it can set {', '.join(sorted(_PER_JOB))}."
            )
            raise ValueError(msg)
        kinds = {field.name: type(field.default) for field in fields(self)}
        return replace(
            self, **{name: _number(f"meta[{META_KEY!r}][{name!r}]", own[name], kinds[name]) for name in own}
        )


def _number(name: str, value: object, kind: type) -> Any:
    try:
        number = kind(value)
    except (TypeError, ValueError, OverflowError):
        number = -1
    if number < 0 or not math.isfinite(number):
        msg = f"{name} must be a number of at least 0, not {value!r}."
        raise ValueError(msg) from None
    return number
