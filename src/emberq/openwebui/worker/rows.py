"""The row of a file in Open WebUI's database: its status, and the attempt that owns it.

The statements are our own: Open WebUI's functions return None after a database error, so that a status
could be lost silently.
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

T = TypeVar("T")

#: Key in a file's data for the id of the running attempt; removed at its end.
_OWNER_KEY = "emberq_attempt"
#: Statuses of a file whose processing has not ended.
_UNFINISHED = ("pending", "processing", None)


def classify_error(error: BaseException) -> ErrorKind:
    """Classify an error of Open WebUI's database drivers: psycopg, psycopg2 and sqlite3."""
    cause = getattr(error, "orig", None) or error
    if type(cause).__module__.startswith("sqlite3"):
        is_busy = any(word in str(cause) for word in ("locked", "busy"))
        return ErrorKind.NOTHING_HAPPENED if is_busy else ErrorKind.PERMANENT
    return classify_db_error(error)


def retry_open_webui(operation: str) -> Retrying:
    """Return the retries of one idempotent operation on Open WebUI's database."""
    return Retrying(classify_error, f"openwebui.{operation}", idempotent=True)


@dataclass(frozen=True, slots=True)
class OpenWebUIFileRow:
    """A file's row.

    Attributes:
        id: The file's id.
        user_id: Its owner.
        name: Its name.
        path: Path of the uploaded bytes; None if it has only text.
        content_type: Its MIME type, if the upload had one.
        status: `pending`, `processing`, `completed`, `failed`, or None.
        metadata: Metadata sent by the uploading client.
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

    Invariant: an attempt changes nothing after another attempt has started or the file was deleted.
    """

    def __init__(self, engine: Engine, table: Any) -> None:
        self._engine = engine
        self._table = table.__table__

    def get(self, file_id: str) -> OpenWebUIFileRow:
        """Return a file.

        Raises:
            FileNotFound: If it does not exist.
        """
        row = self._read(file_id)
        if row is None:
            raise FileNotFound(
                "Open WebUI has no file with this id.",
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

    def exists(self, file_id: str) -> bool:
        """Return whether a file exists."""
        return self._read(file_id) is not None

    def start(self, file_id: str, attempt_id: str) -> None:
        """Set the status `processing` and make an attempt the file's owner, in place of earlier ones.

        Raises:
            FileNotFound: If the file was deleted.
        """
        if not self._change(file_id, {"status": "processing", "error": None, _OWNER_KEY: attempt_id}):
            raise FileNotFound("The file was deleted before it was processed.", file_id=file_id)

    def finish(self, file_id: str, attempt_id: str, *, status: str, error: str | None) -> bool:
        """Set an attempt's final status; return False if the attempt does not own the file any more."""
        return self._change(file_id, {"status": status, "error": error}, owner=attempt_id)

    def fail_unfinished(self, file_id: str, *, error: str) -> bool:
        """Set the status `failed`, whichever attempt owns the file; return False if it has ended already."""
        return self._change(file_id, {"status": "failed", "error": error}, only_unfinished=True)

    def check_owner(self, file_id: str, attempt_id: str) -> None:
        """Check that an attempt owns its file.

        Raises:
            Cancelled: If the file was deleted, or another attempt has started.
        """
        row = self._read(file_id)
        if row is None:
            raise Cancelled("The file was deleted while it was processed.", file_id=file_id)
        if row.owner != attempt_id:
            raise Cancelled("Another attempt has taken the file over.", file_id=file_id)

    def warm_up(self, file_id: str) -> None:
        """Run all statements for a file that does not exist."""
        self._read(file_id)
        self._change(file_id, {})
        self._run("change_file", lambda connection: self._write(connection, file_id, {}))

    def _read(self, file_id: str) -> Any:
        """Read a row without the file's text, which is stored in its data as well and may be long."""
        columns = self._table.c
        statement = select(
            *(columns.id, columns.user_id, columns.filename, columns.path, columns.meta),
            columns.data["status"].as_string().label("status"),
            columns.data[_OWNER_KEY].as_string().label("owner"),
        ).where(columns.id == file_id)
        return self._run("read_file", lambda connection: connection.execute(statement).one_or_none())

    def _change(
        self,
        file_id: str,
        changes: Mapping[str, Any],
        *,
        owner: str | None = None,
        only_unfinished: bool = False,
    ) -> bool:
        def change(connection: Connection) -> bool:
            columns = self._table.c
            read = select(columns.data).where(columns.id == file_id).with_for_update()
            row = connection.execute(read).one_or_none()
            data = dict(row.data or {}) if row is not None else {}
            if row is None or (owner is not None and data.get(_OWNER_KEY) != owner):
                return False
            if only_unfinished and data.get("status") not in _UNFINISHED:
                return False
            if _OWNER_KEY not in changes:
                data.pop(_OWNER_KEY, None)
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
                    # SQLite has no row locks; this blocks other writers until the end.
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                return work(connection)
        raise AssertionError  # pragma: no cover - the last attempt returns or raises
