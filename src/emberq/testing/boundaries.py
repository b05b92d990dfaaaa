"""The fault points: calls of redis-py, psycopg, the file system and ONNX Runtime.

A broken call looks like a failure of the library: it raises the library's own error, and the connection that
was lost is closed.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

from emberq.testing.counters import Counters

__all__ = ["watch_disk", "watch_model", "watch_redis", "watch_sql"]


def watch_redis(points: Counters) -> None:
    """Count each command and each pipeline that redis-py sends."""
    from redis.connection import AbstractConnection
    from redis.exceptions import ConnectionError as RedisConnectionError

    def lost(connection: Any, message: str) -> RedisConnectionError:
        connection.disconnect()
        return RedisConnectionError(message)

    def make_send(original: Any) -> Any:
        @wraps(original)
        def send(connection: Any, command: Any, *args: Any, **kwargs: Any) -> None:
            name = _redis_name(command)
            operation = points.begin(
                "redis", name, lambda: lost(connection, "Error 32 while writing to socket. Broken pipe.")
            )
            original(connection, command, *args, **kwargs)
            operation.broken = lambda: lost(connection, "Connection closed by server.")
            connection.emberq_pending = (operation, name)

        return send

    def make_read(original: Any) -> Any:
        @wraps(original)
        def read(connection: Any, *args: Any, **kwargs: Any) -> Any:
            answer = original(connection, *args, **kwargs)
            # The first answer ends a pipeline: it comes when the server has executed all of it.
            pending, connection.emberq_pending = getattr(connection, "emberq_pending", None), None
            if pending is not None:
                points.end(pending[0], "redis", pending[1])
            return answer

        return read

    points.patch(AbstractConnection, "send_packed_command", make_send)
    points.patch(AbstractConnection, "read_response", make_read)


def watch_sql(points: Counters) -> None:
    """Count psycopg's connects, statements, copies, commits and rollbacks."""
    import psycopg

    def lost(connection: Any, *_args: Any) -> BaseException:
        connection.close()
        return psycopg.OperationalError("server closed the connection unexpectedly")

    def cursor_lost(cursor: Any, *_args: Any) -> BaseException:
        return lost(cursor.connection)

    def refused(*_args: Any) -> BaseException:
        # psycopg's errors of connecting have the unfinished connection.
        return psycopg.OperationalError(
            "connection failed: Connection refused", pgconn=psycopg.pq.PGconn.connect_start(b"")
        )

    def make_copy(original: Any) -> Any:
        @contextmanager
        def copy(cursor: Any, statement: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
            operation = points.begin("sql", str(statement), lambda: cursor_lost(cursor))
            with original(cursor, statement, *args, **kwargs) as copying:
                yield copying
            points.end(operation, "sql", str(statement))

        return copy

    connect = points.around("sql", lambda *_: "connect", refused)
    execute = points.around("sql", lambda _cursor, query, *_: str(query), cursor_lost)
    points.patch(psycopg.Cursor, "execute", execute)
    points.patch(psycopg.Cursor, "executemany", execute)
    points.patch(psycopg.Cursor, "copy", make_copy)
    points.patch(psycopg.Connection, "commit", points.around("sql", lambda *_: "COMMIT", lost))
    points.patch(psycopg.Connection, "rollback", points.around("sql", lambda *_: "ROLLBACK", lost))
    # `psycopg.connect` is a bound method of the class as it was at the import.
    points.patch(psycopg, "connect", connect)
    points.patch(psycopg.Connection, "connect", lambda original: classmethod(connect(original.__func__)))


def watch_disk(points: Counters, directory: Path) -> None:
    """Count operations on files below a directory: opens, writes, syncs, renames and removals."""
    below = f"{directory}{os.sep}"

    def full(*_args: Any) -> BaseException:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def make(label: str) -> Callable[[Any], Any]:
        def decorate(original: Any) -> Any:
            point = points.around("disk", lambda *_: label, full)(original)

            @wraps(original)
            def choose(path: Any, *args: Any, **kwargs: Any) -> Any:
                is_point = points.is_counting and _is_below(path, below)
                return (point if is_point else original)(path, *args, **kwargs)

            return choose

        return decorate

    class CountedFile(io.FileIO):
        """A binary file below the directory, open for writing."""

    CountedFile.write = points.around("disk", lambda *_: "write", full)(io.FileIO.write)  # type: ignore[method-assign]

    def make_open(original: Any) -> Any:
        @wraps(original)
        def open_counted(path: Any, mode: str = "r", buffering: int = -1, *args: Any, **kwargs: Any) -> Any:
            if "b" not in mode or not {*mode} & {*"wxa"} or not _is_below(path, below):
                return original(path, mode, buffering, *args, **kwargs)
            raw = CountedFile(path, mode)
            return raw if buffering == 0 else io.BufferedWriter(raw)

        return make("open")(open_counted)

    for name in ("fsync", "replace", "rename", "link", "unlink", "mkdir", "stat"):
        points.patch(os, name, make(name))
    points.patch(io, "open", make_open)


def _is_below(path: Any, below: str) -> bool:
    if isinstance(path, int):
        try:
            path = Path(f"/proc/self/fd/{path}").readlink()
        except OSError:
            return False
    return isinstance(path, (str, os.PathLike)) and str(path).startswith(below)


def watch_model(points: Counters) -> None:
    """Count each run of an ONNX Runtime session."""
    from onnxruntime import InferenceSession
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail

    def failed(*_args: Any) -> BaseException:
        error: BaseException = Fail("[ONNXRuntimeError] : 1 : FAIL : a node returned a non-zero status")
        return error

    owner = next(one for one in InferenceSession.__mro__ if "run" in one.__dict__)
    points.patch(owner, "run", points.around("model", lambda *_: "run", failed))


def _redis_name(command: Any) -> str:
    """Return the names of packed commands; each one is `*<n>`, `$<length>`, its name and so on."""
    parts = [command] if isinstance(command, (str, bytes)) else list(command)
    text = "".join(part.decode(errors="replace") if isinstance(part, bytes) else str(part) for part in parts)
    lines = text.split("\r\n")
    words = [
        lines[index + 2] for index, line in enumerate(lines[:-2]) if line[:1] == "*" and line[1:].isdigit()
    ]
    return " ".join(words) or text
