"""The row of a file in Open WebUI's database: its status, and whose attempt it is.

Written with statements of our own: Open WebUI's own functions answer an error of the database with
nothing, so that a status could be lost without a word.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, select, update
from sqlalchemy.engine import Engine

from emberq.errors import Cancelled, FileNotFound
from emberq.retry.classify import ErrorKind, classify_db_error
from emberq.retry.operation import Retrying

__all__ = ["OpenWebUIFileRow", "OpenWebUIFileRows", "classify_error", "retry_open_webui"]

T = TypeVar("T")

#: The key in a file's data under which a running attempt signs; gone when it has ended.
_SIGNATURE = "emberq_attempt"
#: Statuses that Open WebUI knows, and in which a file is not at its end.
_OPEN = ("pending", "processing", None)


def classify_error(error: BaseException) -> ErrorKind:
    """Judge an error of the drivers Open WebUI uses: psycopg, psycopg2 and sqlite3."""
    cause = getattr(error, "orig", None) or error
    if type(cause).__module__.startswith("sqlite3"):
        is_busy = any(word in str(cause) for word in ("locked", "busy"))
        return ErrorKind.NOTHING_HAPPENED if is_busy else ErrorKind.PERMANENT
    return classify_db_error(error)


def retry_open_webui(operation: str) -> Retrying:
    """Run one idempotent transaction again after an error of Open WebUI's database that passes."""
    return Retrying(classify_error, f"openwebui.{operation}", idempotent=True)


@dataclass(frozen=True, slots=True)
class OpenWebUIFileRow:
    """A file as Open WebUI has it.

    Attributes:
        id: Its id.
        user_id: Its owner.
        name: Its name.
        path: Where its bytes lie; nothing if it is text only.
        content_type: Its MIME type, if one was given.
        status: `pending`, `processing`, `completed`, `failed`, or nothing.
        metadata: What the client sent with it.
    """

    id: str
    user_id: str
    name: str
    path: str | None
    content_type: str | None
    status: str | None
    metadata: Mapping[str, Any]


class OpenWebUIFileRows:
    """Reads and changes the rows of files.

    Invariant: an attempt that another one has taken over, or whose file is gone, changes nothing more.
    """

    def __init__(self, engine: Engine, table: Any) -> None:
        """Use the engine and table of Open WebUI."""
        self._engine = engine
        self._table = table.__table__

    def get(self, file_id: str) -> OpenWebUIFileRow:
        """Return a file.

        Raises:
            FileNotFound: If there is none of that id.
        """
        row = self._look(file_id)
        if row is None:
            raise FileNotFound(
                "Open WebUI has no file of that id.",
                hint="It was deleted, or the worker uses another database than the server (DATABASE_URL).",
                file_id=file_id,
            )
        meta = row.meta or {}
        client = meta.get("data")
        return OpenWebUIFileRow(
            id=row.id,
            user_id=row.user_id,
            name=row.filename,
            path=row.path,
            content_type=meta.get("content_type"),
            status=row.status,
            metadata=client if isinstance(client, dict) else {},
        )

    def begin(self, file_id: str, attempt: str) -> None:
        """Sign for a file: it is `processing`, and earlier attempts at it have lost it.

        Raises:
            FileNotFound: If it is gone.
        """
        if not self._change(file_id, {"status": "processing", "error": None, _SIGNATURE: attempt}):
            raise FileNotFound("The file was deleted before it was processed.", file_id=file_id)

    def end(self, file_id: str, attempt: str, *, status: str, error: str | None) -> bool:
        """Write how an attempt ended; returns whether the file is still there and the attempt's own."""
        return self._change(file_id, {"status": status, "error": error}, attempt=attempt)

    def settle(self, file_id: str, *, error: str) -> bool:
        """Write `failed` for a file whose attempt can no longer do so; returns whether it was open."""
        return self._change(file_id, {"status": "failed", "error": error}, only_open=True)

    def require(self, file_id: str, attempt: str) -> None:
        """Go on only with an attempt that still has its file.

        Raises:
            Cancelled: If the file is gone, or another attempt has taken it over.
        """
        row = self._look(file_id)
        if row is None:
            raise Cancelled("The file was deleted while it was processed.", file_id=file_id)
        if row.signature != attempt:
            raise Cancelled("Another attempt has taken the file over.", file_id=file_id)

    def exists(self, file_id: str) -> bool:
        """Tell whether there is a file of that id."""
        return self._look(file_id) is not None

    def warm_up(self, file_id: str) -> None:
        """Run the statements above for a file that does not exist."""
        self._look(file_id)
        self._change(file_id, {})
        self._run("change_file", lambda connection: self._write(connection, file_id, {}))

    def _look(self, file_id: str) -> Any:
        """Read a row without the file's text, which lies in its data as well and may be long."""
        columns = self._table.c
        statement = select(
            *(columns.id, columns.user_id, columns.filename, columns.path, columns.meta),
            columns.data["status"].as_string().label("status"),
            columns.data[_SIGNATURE].as_string().label("signature"),
        ).where(columns.id == file_id)
        return self._run("read_file", lambda connection: connection.execute(statement).one_or_none())

    def _change(
        self, file_id: str, changes: Mapping[str, Any], *, attempt: str | None = None, only_open: bool = False
    ) -> bool:
        def change(connection: Connection) -> bool:
            columns = self._table.c
            read = select(columns.data).where(columns.id == file_id).with_for_update()
            row = connection.execute(read).one_or_none()
            data = dict(row.data or {}) if row is not None else {}
            if row is None or (attempt is not None and data.get(_SIGNATURE) != attempt):
                return False
            if only_open and data.get("status") not in _OPEN:
                return False
            if _SIGNATURE not in changes:
                data.pop(_SIGNATURE, None)
            self._write(connection, file_id, {**data, **changes})
            return True

        return self._run("change_file", change)

    def _write(self, connection: Connection, file_id: str, data: Mapping[str, Any]) -> None:
        statement = update(self._table).where(self._table.c.id == file_id)
        connection.execute(statement.values(data=data, updated_at=int(time.time())))

    def _run(self, operation: str, work: Callable[[Connection], T]) -> T:
        for attempt in retry_open_webui(operation):
            with attempt, self._engine.begin() as connection:
                if connection.dialect.name == "sqlite":
                    # It knows no row locks; this keeps other writers out until the end.
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                return work(connection)
        raise AssertionError  # pragma: no cover - the last attempt returns or raises
