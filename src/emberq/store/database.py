"""The database engine of one process and its transactions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import Engine, ExceptionContext
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from emberq.errors import DatabaseUnavailable

__all__ = ["Database"]

#: Seconds to wait for a free connection before the caller is told the database is busy.
_POOL_TIMEOUT_SECONDS = 10.0
#: Seconds to wait for PostgreSQL to accept a connection.
_CONNECT_TIMEOUT_SECONDS = 5
#: Seconds an idle connection is kept; below the usual idle limits of proxies.
_RECYCLE_SECONDS = 1800
#: What the kernel does about a server that vanished without a word: seconds of silence until it asks, and
#: between; how often; and milliseconds until what was sent has to be acknowledged. Unix sockets need none.
_DEAD_PEER = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
#: What a server says that takes no writes.
_READ_ONLY_SQLSTATE = "25006"
#: The class of operational errors that are the statement's own fault: it goes beyond a limit of PostgreSQL
#: (a text too long for its index, too many columns), and will do so every time.
_LIMIT_EXCEEDED_CLASS = "54"


class Database:
    """The connections of one process: opened on first use, checked (`SELECT 1`) whenever one is taken.

    Invariant: never used across a fork; `after_fork` drops what was inherited without closing it.
    """

    def __init__(self, url: str, *, pool_size: int = 4, application_name: str = "emberq") -> None:
        """Prepare an engine for `postgresql+psycopg://…`; nothing is opened yet."""
        self.url = url
        self.engine: Engine = create_engine(
            url,
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_pre_ping=True,
            pool_timeout=_POOL_TIMEOUT_SECONDS,
            pool_recycle=_RECYCLE_SECONDS,
            connect_args={
                "connect_timeout": _CONNECT_TIMEOUT_SECONDS,
                "application_name": application_name,
                **_DEAD_PEER,
            },
        )
        #: What the server calls connections that are opened from now on.
        self.application_name = application_name
        event.listen(self.engine, "do_connect", self._name_connection)
        event.listen(self.engine, "connect", _set_session)
        event.listen(self.engine, "handle_error", _leave_read_only_server)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Open a transaction; it is committed at the end, or rolled back if the block raises.

        Raises:
            DatabaseUnavailable: If PostgreSQL is away, goes away before the end, or cannot do at the moment
                what it is asked: its disk is full, it takes no writes, all connections are in use.
        """
        try:
            with self.engine.begin() as connection:
                yield connection
        # COPY speaks to the driver itself, whose errors nobody wraps.
        except (DBAPIError, PoolTimeout, psycopg.Error) as exc:
            if not _is_outage(exc):
                raise
            raise DatabaseUnavailable(f"PostgreSQL did not answer: {_reason(exc)}") from exc

    def after_fork(self) -> None:
        """Forget connections inherited from the parent; the parent goes on using its own."""
        self.engine.dispose(close=False)

    def _name_connection(self, _dialect: Any, _record: Any, _arguments: Any, parameters: Any) -> None:
        parameters["application_name"] = self.application_name

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    def open_connections(self) -> int:
        """Return the number of connections this process holds."""
        idle, in_use = self.count_connections()
        return idle + in_use

    def count_connections(self) -> tuple[int, int]:
        """Return how many connections of this process are idle and how many in use."""
        pool: Any = self.engine.pool
        return int(pool.checkedin()), int(pool.checkedout())


def _is_outage(exc: Exception) -> bool:
    """Tell whether an error is the server's or the connection's, not the statement's."""
    cause = getattr(exc, "orig", None) or exc
    sqlstate = getattr(cause, "sqlstate", None) or ""
    if sqlstate.startswith(_LIMIT_EXCEEDED_CLASS):
        return False
    return (
        isinstance(cause, PoolTimeout | psycopg.OperationalError | psycopg.InterfaceError)
        or sqlstate == _READ_ONLY_SQLSTATE
        or getattr(exc, "connection_invalidated", False)
    )


def _reason(exc: BaseException) -> str:
    """Return the server's sentence without the statement, its parameters or the address."""
    cause = getattr(exc, "orig", None) or exc
    return str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__


def _set_session(dbapi_connection: Any, _record: Any) -> None:
    with dbapi_connection.cursor() as cursor:
        cursor.execute("SET TIME ZONE 'UTC'")
        # A search keeps looking in the vector index until its filter has let enough rows through.
        cursor.execute("SET hnsw.iterative_scan = 'relaxed_order'")
    dbapi_connection.commit()


def _leave_read_only_server(context: ExceptionContext) -> None:
    """Drop the pool's connections when one turns out to lead to a replica: its server was demoted."""
    if getattr(context.original_exception, "sqlstate", None) == _READ_ONLY_SQLSTATE:
        context.is_disconnect = True
