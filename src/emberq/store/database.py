"""The database connections of one process, and its transactions."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import Connection, create_engine, event, make_url, text
from sqlalchemy.engine import Engine, ExceptionContext
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from emberq.errors import DatabaseUnavailable
from emberq.system.forks import close_in_children

#: Seconds to wait for a free connection of the pool.
_POOL_TIMEOUT_SECONDS = 10.0
#: Seconds to wait for PostgreSQL to accept a connection.
_CONNECT_TIMEOUT_SECONDS = 5
#: Seconds an idle connection is kept; below the usual idle limits of proxies.
_RECYCLE_SECONDS = 1800
#: Detection of a server that vanished silently: TCP keepalive's seconds before the first probe and between
#: probes, number of probes, and milliseconds until sent data must be acknowledged. Unix sockets need none.
_DEAD_PEER = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
#: The variables of PostgreSQL that the policies of row-level security ask: the tenant of the transaction,
#: and whether it sees all tenants. They end with the transaction.
TENANT_VARIABLE, SYSTEM_VARIABLE = "emberq.tenant", "emberq.system"
_BEGIN = "BEGIN"
_BEGIN_SYSTEM = f"{_BEGIN}; SET LOCAL {SYSTEM_VARIABLE} = 'on'"
_SEE_ALL = text(f"SET LOCAL {SYSTEM_VARIABLE} = 'on'")
_SEE_ONE = text(f"SET LOCAL {SYSTEM_VARIABLE} = ''")
#: The option of a connection that says how its transactions begin.
_BEGIN_OPTION = "emberq_begin"
#: The SQLSTATE of a server that takes no writes.
_READ_ONLY_SQLSTATE = "25006"
#: The class of operational errors of statements that exceed a limit of PostgreSQL (a text too long for its
#: index, too many columns): they fail every time.
_LIMIT_EXCEEDED_CLASS = "54"


@contextmanager
def all_tenants(connection: Connection) -> Iterator[None]:
    """Let a block see the rows of all tenants, in a transaction that otherwise sees one tenant's.

    A test lists the functions that may call it.
    """
    if connection.get_execution_options().get(_BEGIN_OPTION) == _BEGIN_SYSTEM:
        yield
        return
    connection.execute(_SEE_ALL)
    yield
    # After an error the transaction is rolled back, and the variable with it.
    connection.execute(_SEE_ONE)


class Database:
    """The connections of one process: opened on first use, checked (`SELECT 1`) at each checkout.

    Invariant: never used across a fork; a child closes its copies of the sockets, and `after_fork` drops the
    connections.
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
        #: The `application_name` of connections that are opened from now on.
        self.application_name = application_name
        #: What a connection gets in place of what the URL had at first.
        self._login: dict[str, Any] = {}
        event.listen(self.engine, "do_connect", self._log_in)
        event.listen(self.engine, "connect", _set_session)
        event.listen(self.engine, "begin", _begin)
        event.listen(self.engine, "connect", _close_socket_in_children)
        event.listen(self.engine, "handle_error", _leave_read_only_server)

    @contextmanager
    def tenant_transaction(self, tenant: str) -> Iterator[Connection]:
        """Open a transaction that sees and changes the rows of one tenant only.

        It is committed at the end, or rolled back if the block raises.

        Args:
            tenant: The tenant.

        Raises:
            DatabaseUnavailable: As `transaction`.
        """
        with self._open(f"{_BEGIN}; SET LOCAL {TENANT_VARIABLE} = {_literal(tenant)}") as connection:
            yield connection

    @contextmanager
    def system_transaction(self) -> Iterator[Connection]:
        """Open a transaction that sees and changes the rows of all tenants.

        It is for what concerns several tenants, or is done before the tenant is known. A test lists the
        functions that may call it.

        Raises:
            DatabaseUnavailable: As `transaction`.
        """
        with self._open(_BEGIN_SYSTEM) as connection:
            yield connection

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Open a transaction that sees no row of any tenant, for tables without a tenant.

        It is committed at the end, or rolled back if the block raises.

        Raises:
            DatabaseUnavailable: If PostgreSQL does not answer, disconnects before the end, or cannot work at
                the moment: its disk is full, it takes no writes, or all connections are in use.
        """
        with self._open(_BEGIN) as connection:
            yield connection

    @contextmanager
    def _open(self, begin: str) -> Iterator[Connection]:
        try:
            options = {_BEGIN_OPTION: begin}
            with self.engine.connect().execution_options(**options) as connection, connection.begin():
                yield connection
        # COPY and BEGIN use the driver directly, so SQLAlchemy does not wrap their errors.
        except (DBAPIError, PoolTimeout, psycopg.Error) as exc:
            if not _is_outage(exc):
                raise
            raise DatabaseUnavailable(f"PostgreSQL did not answer: {_reason(exc)}") from exc

    def after_fork(self) -> None:
        """Drop the connections inherited from the parent, which continues to use them."""
        self.engine.dispose(close=False)

    def become(self, url: str) -> None:
        """Connect by another URL of the same database from now on: with another role and password.

        Connections that are open are closed, unless they are in use.
        """
        self.url = url
        role = make_url(url)
        self._login = {"user": role.username, "password": role.password}
        self.engine.dispose()

    def _log_in(self, _dialect: Any, _record: Any, _arguments: Any, parameters: Any) -> None:
        parameters.update(self._login, application_name=self.application_name)

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    def count_connections(self) -> tuple[int, int]:
        """Return how many connections of this process are idle and how many in use."""
        pool: Any = self.engine.pool
        return int(pool.checkedin()), int(pool.checkedout())


class _SocketOfParent:
    """The socket of a connection, for a child: the connection itself would tell the server that it ends."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._libpq = connection.pgconn

    def close(self) -> None:
        with contextlib.suppress(psycopg.Error):
            os.close(self._libpq.socket)


def _close_socket_in_children(connection: Any, record: Any) -> None:
    # The record lives as long as the connection.
    record.info["socket_of_parent"] = close_in_children(_SocketOfParent(connection))


def _is_outage(exc: Exception) -> bool:
    """Tell whether an error is one of the server or the connection, not of the statement."""
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
    """Return the server's message without the statement, its parameters or the address."""
    cause = getattr(exc, "orig", None) or exc
    return str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__


def _set_session(dbapi_connection: Any, _record: Any) -> None:
    # The driver sends no BEGIN of its own: `_begin` does, together with the tenant.
    dbapi_connection.autocommit = True
    # A search continues in the vector index until enough rows pass its filter.
    dbapi_connection.execute("SET TIME ZONE 'UTC'; SET hnsw.iterative_scan = 'relaxed_order'", prepare=False)


def _begin(connection: Connection) -> None:
    """Begin a transaction and set its tenant in one message, so that the tenant costs no round trip."""
    driver: Any = connection.connection.driver_connection
    try:
        driver.execute(connection.get_execution_options().get(_BEGIN_OPTION, _BEGIN), prepare=False)
    except psycopg.Error as exc:
        connection.invalidate(exc)
        raise


def _literal(value: str) -> str:
    return sql.Literal(value).as_string()


def _leave_read_only_server(context: ExceptionContext) -> None:
    """Drop the pool's connections if one of them leads to a read-only server: it was demoted to a replica."""
    if getattr(context.original_exception, "sqlstate", None) == _READ_ONLY_SQLSTATE:
        context.is_disconnect = True
