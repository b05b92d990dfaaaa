"""A job of a worker with an allow-list: what Redis says of it is checked before anything of it is used.

To RQ a refused job does not exist, so that nothing waits for it: not the worker that took it, nor RQ's
clean-up that comes across it.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from redis import Redis
from redis.exceptions import RedisError, ResponseError
from rq.exceptions import NoSuchJobError
from rq.job import Job
from rq.queue import Queue
from rq.registry import FailedJobRegistry
from rq.results import Result
from rq.utils import current_timestamp, decode_redis_hash, import_attribute

from emberq.telemetry import metrics
from emberq.telemetry.logs import get_logger
from emberq.worker.rq.allow_list import AllowList, shown

log = get_logger(__name__)

#: Most bytes of a job's unpacked payload.
_PAYLOAD_BYTES = 64 * 1024 * 1024
#: Seconds for which Redis keeps a refused job.
_KEPT_SECONDS = 86400
#: Most seconds of any time limit in a job.
_LONGEST_SECONDS = 10 * 366 * 86400
_LIMITS = ("timeout", "result_ttl", "failure_ttl", "ttl")
_CALLBACKS = ("success_callback_name", "failure_callback_name", "stopped_callback_name")
#: The fields of a ticket that are read.
_TICKET_FIELDS = frozenset(
    {
        *("data", "created_at", "enqueued_at", "origin", "status", "timeout", "result_ttl", "failure_ttl"),
        *("started_at", "ended_at", "last_heartbeat", "worker_name"),
        *_CALLBACKS,
    }
)


class JobRefused(Exception):
    """A job may not run here.

    Attributes:
        reason: `function`, `callback`, `payload` (unreadable), `fields` (unreadable) or `keys` (of a wrong
            type).
        named: The function that it names, if it is known.
    """

    def __init__(self, reason: str, why: str, *, named: object = "") -> None:
        self.reason = reason
        self.named = shown(named)
        super().__init__(shown(why))


class CheckedJob(Job):
    """An RQ job that calls only what the allow-list allows; use a class made by `checked_job_class`.

    Attributes:
        allow: The allow-list of the worker.
        origins: The queues of the worker; a refused job of another one is filed under the first.
    """

    allow: ClassVar[AllowList]
    origins: ClassVar[tuple[str, ...]]

    @classmethod
    def fetch(cls, id: str, connection: Any = None, serializer: Any = None) -> Job:  # noqa: A002 - RQ's signature
        """Read a job.

        Raises:
            NoSuchJobError: If there is none, or if it is refused.
        """
        try:
            if ":" in id:
                msg = "a job's id has no colon"
                raise JobRefused("fields", msg)
            return super().fetch(id, connection=connection, serializer=serializer)
        except (NoSuchJobError, RedisError) as exc:
            if not (isinstance(exc, ResponseError) and str(exc).startswith("WRONGTYPE")):
                raise
            refusal = JobRefused("keys", str(exc))
        except JobRefused as exc:
            refusal = exc
        except Exception as exc:  # noqa: BLE001 - what RQ makes of a field may raise anything
            refusal = JobRefused("fields", f"{type(exc).__name__}: {exc}")
        refuse(id, refusal, connection=connection, queue=cls.origins[0])
        raise NoSuchJobError(str(refusal)) from refusal

    def restore(self, raw_data: Mapping[Any, Any]) -> Any:
        """Take in what Redis has of the job, once it is checked.

        Raises:
            JobRefused: If it may not run here.
            NoSuchJobError: If Redis has no payload.
        """
        fields = decode_redis_hash(dict(raw_data))
        if "data" not in fields:
            raise NoSuchJobError
        fields["data"] = _unpack(fields["data"])
        name = self._check_payload(fields["data"])
        for field in _CALLBACKS:
            callback = bytes(fields.get(field) or b"").decode()
            if callback and not self.allow.allows(callback):
                msg = f"the callback {shown(callback)} is not allowed"
                raise JobRefused("callback", msg, named=callback)
        if name in self.allow.tickets:
            fields = {field: value for field, value in fields.items() if field in _TICKET_FIELDS}
        super().restore(fields)
        for field in _LIMITS:
            limit = getattr(self, field)
            if limit is not None and not -1 <= limit <= _LONGEST_SECONDS:
                msg = f"{field} is out of range"
                raise JobRefused("fields", msg, named=name)

    def _check_payload(self, data: bytes) -> str:
        """Return the name of the function."""
        try:
            name, instance, args, kwargs = self.serializer.loads(data)
        except Exception as exc:
            msg = f"{type(exc).__name__}: {exc}"
            raise JobRefused("payload", msg) from exc
        if not (isinstance(name, str) and isinstance(args, list | tuple) and isinstance(kwargs, dict)):
            msg = "the payload has not the form of a job"
            raise JobRefused("payload", msg)
        if instance is not None:
            name = f"{type(instance).__module__}.{type(instance).__qualname__}.{name}"
        if not self.allow.allows(name):
            msg = f"the function {shown(name)} is not allowed"
            raise JobRefused("function", msg, named=name)
        return name

    @property
    def func(self) -> Any:
        """The function; checked once more, as it was found only now.

        Raises:
            JobRefused: If its name leads to a function of another module.
        """
        if self.instance is not None:
            return super().func
        return self._find(self.func_name, "function")

    @property
    def success_callback(self) -> Any:
        """The callback for a success; see `func`."""
        return self._find(self._success_callback_name, "callback")

    @property
    def failure_callback(self) -> Any:
        """The callback for a failure; see `func`."""
        return self._find(self._failure_callback_name, "callback")

    @property
    def stopped_callback(self) -> Any:
        """The callback for a stop; see `func`."""
        return self._find(self._stopped_callback_name, "callback")

    def _find(self, name: str | None, reason: str) -> Callable[..., Any] | None:
        if not name:
            return None
        found = import_attribute(name) if self.allow.allows(name) else None
        if found is None or not self.allow.allows_found(name, found):
            msg = f"the {reason} {shown(name)} is not allowed"
            raise JobRefused(reason, msg, named=name)
        return found


def checked_job_class(base: type[Job], allow: AllowList, origins: tuple[str, ...]) -> type[Job]:
    """Return a job class with the checks, for one worker."""
    bases = (CheckedJob,) if base is Job else (CheckedJob, base)
    return type("CheckedJob", bases, {"allow": allow, "origins": origins or ("default",)})


def refuse(job_id: str, refusal: JobRefused, *, connection: Redis, queue: str) -> None:
    """Fail a job in Redis without a further look at it, in one line of the log and in the metrics.

    Nothing of it is run, retried, called back or sent.
    """
    metrics.count_refused_job(refusal.reason)
    log.warning(
        "job_refused",
        rq_job=shown(job_id),
        queue=queue,
        reason=refusal.reason,
        function=refusal.named,
        error=str(refusal),
    )
    intermediate = Queue(queue, connection=connection).intermediate_queue_key
    with contextlib.suppress(ResponseError):
        connection.lrem(intermediate, 0, job_id)
    with contextlib.suppress(ResponseError, ValueError), connection.pipeline() as pipeline:
        failed = Job(job_id, connection=connection)
        pipeline.hset(failed.key, "status", "failed")
        pipeline.expire(failed.key, _KEPT_SECONDS)
        registry = FailedJobRegistry(queue, connection=connection)
        pipeline.zadd(registry.key, {job_id: current_timestamp() + _KEPT_SECONDS})
        Result.create_failure(failed, _KEPT_SECONDS, f"job_refused: {refusal}", pipeline=pipeline)
        pipeline.execute()


def _unpack(packed: bytes) -> bytes:
    """Return a payload; the size is counted while it is unpacked.

    Raises:
        JobRefused: If it is too large, or packed twice.
    """
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(packed, _PAYLOAD_BYTES)
    except zlib.error:
        # As in RQ: a payload may be stored as it is.
        data = packed
    if unpacker.unconsumed_tail or len(data) > _PAYLOAD_BYTES:
        msg = f"the payload is larger than {_PAYLOAD_BYTES} bytes"
        raise JobRefused("payload", msg)
    with contextlib.suppress(zlib.error):
        zlib.decompressobj().decompress(data, 1)
        msg = "the payload is packed twice"
        raise JobRefused("payload", msg)
    return data
