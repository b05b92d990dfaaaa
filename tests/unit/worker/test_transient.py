from __future__ import annotations

import psycopg
import pytest
from redis import exceptions as redis_errors
from redis.sentinel import MasterNotFoundError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from emberq.errors import DatabaseUnavailable, RedisUnavailable
from emberq.retry.classify import Outcome, judge_db_error, judge_redis_error


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (redis_errors.BusyLoadingError("Redis is loading the dataset in memory"), Outcome.NOTHING_HAPPENED),
        (redis_errors.ReadOnlyError("You can't write"), Outcome.NOTHING_HAPPENED),
        (redis_errors.ClusterDownError("CLUSTERDOWN"), Outcome.NOTHING_HAPPENED),
        (redis_errors.MasterDownError("MASTERDOWN"), Outcome.NOTHING_HAPPENED),
        (redis_errors.TryAgainError("TRYAGAIN"), Outcome.NOTHING_HAPPENED),
        (
            redis_errors.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
            Outcome.NOTHING_HAPPENED,
        ),
        (redis_errors.ResponseError("MISCONF Errors writing to the AOF file"), Outcome.NOTHING_HAPPENED),
        (
            redis_errors.ResponseError("NOREPLICAS Not enough good replicas to write."),
            Outcome.NOTHING_HAPPENED,
        ),
        (redis_errors.MaxConnectionsError("Too many connections"), Outcome.NOTHING_HAPPENED),
        (redis_errors.ConnectionError("max number of clients reached"), Outcome.NOTHING_HAPPENED),
        (MasterNotFoundError("No master"), Outcome.NOTHING_HAPPENED),
        (redis_errors.ConnectionError("Connection closed by server."), Outcome.UNKNOWN),
        (redis_errors.TimeoutError("Timeout reading from socket"), Outcome.UNKNOWN),
        (redis_errors.AuthenticationError("WRONGPASS"), Outcome.PERMANENT),
        (redis_errors.AuthorizationError("no"), Outcome.PERMANENT),
        (redis_errors.NoPermissionError("NOPERM"), Outcome.PERMANENT),
        (redis_errors.ResponseError("ERR unknown command"), Outcome.PERMANENT),
        (ValueError("a bug"), Outcome.PERMANENT),
    ],
)
def test_redis_errors_are_told_apart(error: Exception, outcome: Outcome) -> None:
    assert judge_redis_error(error) is outcome
    wrapped = RedisUnavailable("wrapped")
    wrapped.__cause__ = error
    assert judge_redis_error(wrapped) is outcome


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (psycopg.errors.DeadlockDetected("deadlock"), Outcome.NOTHING_HAPPENED),
        (psycopg.errors.SerializationFailure("serialize"), Outcome.NOTHING_HAPPENED),
        (psycopg.errors.AdminShutdown("terminating"), Outcome.UNKNOWN),
        (psycopg.OperationalError("the connection is lost"), Outcome.UNKNOWN),
        (psycopg.errors.UniqueViolation("twice"), Outcome.PERMANENT),
        (psycopg.errors.InvalidPassword("no"), Outcome.PERMANENT),
        (psycopg.errors.DiskFull("full"), Outcome.NOTHING_HAPPENED),
        (psycopg.errors.OutOfMemory("none"), Outcome.NOTHING_HAPPENED),
        (psycopg.errors.TooManyConnections("many"), Outcome.NOTHING_HAPPENED),
        (psycopg.errors.ReadOnlySqlTransaction("no"), Outcome.NOTHING_HAPPENED),
        (psycopg.errors.LockNotAvailable("held"), Outcome.NOTHING_HAPPENED),
        (psycopg.errors.CrashShutdown("crash"), Outcome.UNKNOWN),
        (psycopg.errors.ProgramLimitExceeded("too long"), Outcome.PERMANENT),
        (psycopg.errors.QueryCanceled("statement timeout"), Outcome.PERMANENT),
        (PoolTimeout("QueuePool limit"), Outcome.NOTHING_HAPPENED),
        (ConnectionRefusedError(111, "refused"), Outcome.NOTHING_HAPPENED),
        (ConnectionResetError(104, "reset"), Outcome.UNKNOWN),
        (KeyError("a bug"), Outcome.PERMANENT),
    ],
)
def test_database_errors_are_told_apart(error: Exception, outcome: Outcome) -> None:
    assert judge_db_error(error) is outcome
    wrapped = DatabaseUnavailable("wrapped")
    wrapped.__cause__ = error
    assert judge_db_error(wrapped) is outcome


def test_an_engine_that_is_away_without_a_reason_may_have_done_it() -> None:
    assert judge_db_error(DatabaseUnavailable()) is Outcome.UNKNOWN
    assert judge_redis_error(RedisUnavailable()) is Outcome.UNKNOWN
