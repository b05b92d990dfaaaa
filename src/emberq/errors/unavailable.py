"""Errors of an engine that cannot be reached."""

from __future__ import annotations

from emberq.errors.base import EmberqError

__all__ = ["DatabaseUnavailable", "RedisUnavailable", "UnavailableError"]


class UnavailableError(EmberqError):
    """An engine emberq needs is away."""

    status = 503
    retryable = True
    # The process that recorded this error has reached the engine again.
    retry_pause = 0.1


class DatabaseUnavailable(UnavailableError):
    """PostgreSQL cannot be reached."""

    code = "database_unavailable"
    default_hint = "Check EMBERQ_DATABASE_URL and that the server runs; `emberq doctor` tells more."


class RedisUnavailable(UnavailableError):
    """Redis cannot be reached."""

    code = "redis_unavailable"
    default_hint = "Check EMBERQ_REDIS_URL and that the server runs; `emberq doctor` tells more."
