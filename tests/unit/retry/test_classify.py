from __future__ import annotations

import psycopg
import pytest
from redis import exceptions as redis_errors
from redis.sentinel import MasterNotFoundError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from emberq.errors import DatabaseUnavailable, RedisUnavailable
from emberq.retry.classify import ErrorKind, classify_db_error, classify_redis_error


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (redis_errors.BusyLoadingError("Redis is loading the dataset in memory"), ErrorKind.NOTHING_HAPPENED),
        (redis_errors.ReadOnlyError("You can't write"), ErrorKind.NOTHING_HAPPENED),
        (redis_errors.ClusterDownError("CLUSTERDOWN"), ErrorKind.NOTHING_HAPPENED),
        (redis_errors.MasterDownError("MASTERDOWN"), ErrorKind.NOTHING_HAPPENED),
        (redis_errors.TryAgainError("TRYAGAIN"), ErrorKind.NOTHING_HAPPENED),
        (
            redis_errors.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
            ErrorKind.NOTHING_HAPPENED,
        ),
        (redis_errors.ResponseError("MISCONF Errors writing to the AOF file"), ErrorKind.NOTHING_HAPPENED),
        (
            redis_errors.ResponseError("NOREPLICAS Not enough good replicas to write."),
            ErrorKind.NOTHING_HAPPENED,
        ),
        (redis_errors.MaxConnectionsError("Too many connections"), ErrorKind.NOTHING_HAPPENED),
        (redis_errors.ConnectionError("max number of clients reached"), ErrorKind.NOTHING_HAPPENED),
        (MasterNotFoundError("No master"), ErrorKind.NOTHING_HAPPENED),
        (redis_errors.ConnectionError("Connection closed by server."), ErrorKind.UNKNOWN),
        (redis_errors.TimeoutError("Timeout reading from socket"), ErrorKind.UNKNOWN),
        (redis_errors.AuthenticationError("WRONGPASS"), ErrorKind.PERMANENT),
        (redis_errors.AuthorizationError("no"), ErrorKind.PERMANENT),
        (redis_errors.NoPermissionError("NOPERM"), ErrorKind.PERMANENT),
        (redis_errors.ResponseError("ERR unknown command"), ErrorKind.PERMANENT),
        (ValueError("a bug"), ErrorKind.PERMANENT),
    ],
)
def test_redis_errors_are_told_apart(error: Exception, outcome: ErrorKind) -> None:
    assert classify_redis_error(error) is outcome
    wrapped = RedisUnavailable("wrapped")
    wrapped.__cause__ = error
    assert classify_redis_error(wrapped) is outcome


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (psycopg.errors.DeadlockDetected("deadlock"), ErrorKind.NOTHING_HAPPENED),
        (psycopg.errors.SerializationFailure("serialize"), ErrorKind.NOTHING_HAPPENED),
        (psycopg.errors.AdminShutdown("terminating"), ErrorKind.UNKNOWN),
        (psycopg.OperationalError("the connection is lost"), ErrorKind.UNKNOWN),
        (psycopg.errors.UniqueViolation("twice"), ErrorKind.PERMANENT),
        (psycopg.errors.InvalidPassword("no"), ErrorKind.PERMANENT),
        (psycopg.errors.DiskFull("full"), ErrorKind.NOTHING_HAPPENED),
        (psycopg.errors.OutOfMemory("none"), ErrorKind.NOTHING_HAPPENED),
        (psycopg.errors.TooManyConnections("many"), ErrorKind.NOTHING_HAPPENED),
        (psycopg.errors.ReadOnlySqlTransaction("no"), ErrorKind.NOTHING_HAPPENED),
        (psycopg.errors.LockNotAvailable("held"), ErrorKind.NOTHING_HAPPENED),
        (psycopg.errors.CrashShutdown("crash"), ErrorKind.UNKNOWN),
        (psycopg.errors.ProgramLimitExceeded("too long"), ErrorKind.PERMANENT),
        (psycopg.errors.QueryCanceled("statement timeout"), ErrorKind.PERMANENT),
        (PoolTimeout("QueuePool limit"), ErrorKind.NOTHING_HAPPENED),
        (ConnectionRefusedError(111, "refused"), ErrorKind.NOTHING_HAPPENED),
        (ConnectionResetError(104, "reset"), ErrorKind.UNKNOWN),
        (KeyError("a bug"), ErrorKind.PERMANENT),
    ],
)
def test_database_errors_are_told_apart(error: Exception, outcome: ErrorKind) -> None:
    assert classify_db_error(error) is outcome
    wrapped = DatabaseUnavailable("wrapped")
    wrapped.__cause__ = error
    assert classify_db_error(wrapped) is outcome


def test_an_engine_that_is_away_without_a_reason_may_have_done_it() -> None:
    assert classify_db_error(DatabaseUnavailable()) is ErrorKind.UNKNOWN
    assert classify_redis_error(RedisUnavailable()) is ErrorKind.UNKNOWN
