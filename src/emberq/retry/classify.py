"""What errors of PostgreSQL and Redis mean for another attempt."""

from __future__ import annotations

import re
import ssl
from enum import Enum

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    ExternalAuthProviderError,
    MaxConnectionsError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.sentinel import MasterNotFoundError, SlaveNotFoundError

from emberq.errors import DatabaseUnavailable, RedisUnavailable, causes


class ErrorKind(Enum):
    """What an error says about the operation that failed."""

    #: The next attempt fails as well: a bug, a wrong password, a missing table.
    PERMANENT = "permanent"
    #: The next attempt may succeed, and this one certainly did nothing.
    NOTHING_HAPPENED = "nothing happened"
    #: The next attempt may succeed, but this one may have as well: its answer was lost.
    UNKNOWN = "unknown"


#: The kinds of SQLSTATEs; all others are permanent.
_SQLSTATES = {
    # Rolled back or never begun: serialization failure, deadlock, lock time-out, read-only replica, not
    # accepting connections (starting, stopping, recovering), never connected, rejected, idle too long.
    **dict.fromkeys(
        ("40001", "40P01", "55P03", "25006", "57P03", "08001", "08004", "57P05"), ErrorKind.NOTHING_HAPPENED
    ),
    # The same for lack of disk, memory or connections, or because of a configured limit. A commit that cannot
    # be written to the log is not reported like this: the server ends.
    **dict.fromkeys(("53000", "53100", "53200", "53300", "53400"), ErrorKind.NOTHING_HAPPENED),
    # Perhaps after the commit: the server stopped or crashed, the connection broke.
    **dict.fromkeys(("57P01", "57P02", "08000", "08003", "08006", "08007"), ErrorKind.UNKNOWN),
}
#: Permanent refusals of a connection; libpq gives them without a SQLSTATE.
_PERMANENT_REFUSAL = re.compile(
    r"authentication failed|no password supplied|pg_hba\.conf|does not exist|is not permitted to log in"
    r"|permission denied for database|certificate|does not support SSL|SSL (was|is) required"
)
#: How redis-py's messages begin if a connection could not be made; tests with real sockets pin them.
_REDIS_NOT_CONNECTED = re.compile(r"^Error .*connecting to |^Timeout connecting to server")
#: Refusals that redis-py turns into a plain connection error.
_REDIS_REFUSED = frozenset(
    {
        "max number of clients reached",
        "No connection available.",
        "The previous master is now a slave",
    }
)
#: Errors with which a server, a pool or a Sentinel says that it did nothing.
_REDIS_DID_NOTHING = (
    BusyLoadingError,
    ReadOnlyError,
    ClusterDownError,
    TryAgainError,
    MaxConnectionsError,
    OutOfMemoryError,
    MasterNotFoundError,
    SlaveNotFoundError,
    ConnectionRefusedError,
)
#: How the answers of a server begin that takes no writes for now: it cannot save, or has too few replicas.
#: redis-py removes the first word only from errors that it has a class for.
_REDIS_TAKES_NO_WRITES = ("MISCONF", "NOREPLICAS")
#: Errors that redis-py derives from its connection error, although another attempt cannot help.
_REDIS_LOGIN = (AuthenticationError, AuthorizationError, ExternalAuthProviderError)
#: Errors of the connection: redis-py's and the operating system's.
_REDIS_BROKEN = (RedisConnectionError, RedisTimeoutError, ConnectionError, TimeoutError)


def classify_db_error(error: BaseException) -> ErrorKind:
    """Classify an error of psycopg, SQLAlchemy or asyncpg, or a `DatabaseUnavailable` that wraps one."""
    if isinstance(error, DatabaseUnavailable):
        return classify_db_error(error.__cause__) if error.__cause__ is not None else ErrorKind.UNKNOWN
    cause = getattr(error, "orig", None) or error
    sqlstate = getattr(cause, "sqlstate", None)
    if sqlstate is not None:
        return _SQLSTATES.get(sqlstate, ErrorKind.PERMANENT)
    if _is_sqlalchemy_pool_timeout(error) or isinstance(cause, ConnectionRefusedError):
        return ErrorKind.NOTHING_HAPPENED
    if _is_psycopg_operational_error(cause) and getattr(cause, "pgconn", None) is not None:
        # Only psycopg's errors of connecting have the connection that was being made.
        return ErrorKind.PERMANENT if _PERMANENT_REFUSAL.search(str(cause)) else ErrorKind.NOTHING_HAPPENED
    broke = (
        _is_psycopg_operational_error(cause)
        or getattr(error, "connection_invalidated", False)
        or isinstance(cause, ConnectionError)
    )
    return ErrorKind.UNKNOWN if broke else ErrorKind.PERMANENT


def classify_redis_error(error: BaseException) -> ErrorKind:
    """Classify an error of redis-py, or a `RedisUnavailable` that wraps one."""
    if isinstance(error, RedisUnavailable):
        return classify_redis_error(error.__cause__) if error.__cause__ is not None else ErrorKind.UNKNOWN
    takes_no_writes = isinstance(error, ResponseError) and str(error).startswith(_REDIS_TAKES_NO_WRITES)
    if takes_no_writes or isinstance(error, _REDIS_DID_NOTHING):
        return ErrorKind.NOTHING_HAPPENED
    is_permanent = (
        isinstance(error, _REDIS_LOGIN)
        or not isinstance(error, _REDIS_BROKEN)
        or any(isinstance(earlier, ssl.SSLCertVerificationError) for earlier in causes(error))
    )
    if is_permanent:
        return ErrorKind.PERMANENT
    text = str(error)
    did_nothing = _REDIS_NOT_CONNECTED.match(text) or text in _REDIS_REFUSED
    return ErrorKind.NOTHING_HAPPENED if did_nothing else ErrorKind.UNKNOWN


def _is_psycopg_operational_error(error: BaseException) -> bool:
    # By name, as the runtime imports no database driver; asyncpg's errors always have a SQLSTATE.
    return any(
        base.__name__ == "OperationalError" and base.__module__.partition(".")[0] in ("psycopg", "psycopg2")
        for base in type(error).__mro__
    )


def _is_sqlalchemy_pool_timeout(error: BaseException) -> bool:
    return type(error).__module__ == "sqlalchemy.exc" and type(error).__name__ == "TimeoutError"
