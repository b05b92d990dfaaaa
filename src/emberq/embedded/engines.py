"""Both engines as one: start those without a URL, notice a death, start again, stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import structlog

from emberq.embedded.datadir import DataDirectory
from emberq.embedded.passwords import API_ROLE, OWNER_ROLE, WORKER_ROLE
from emberq.embedded.postgres import EmbeddedPostgres
from emberq.embedded.valkey import EmbeddedValkey

if TYPE_CHECKING:
    import os


_log = structlog.stdlib.get_logger(__name__)


class Engines:
    """The database and Redis that emberq uses, embedded unless a URL names another server.

    Use it as a context manager, or call `start` and `stop`. Start and restart it from the main thread: on
    Linux the engines end with the thread that started them, and so they end when emberq is killed.
    """

    def __init__(
        self, data_dir: str | os.PathLike[str], *, database_url: str | None, redis_url: str | None
    ) -> None:
        """Choose what to embed; nothing is touched before `start`.

        Args:
            data_dir: Where embedded engines keep their data; not touched if both URLs are given.
            database_url: SQLAlchemy URL of a PostgreSQL to use, None to embed one.
            redis_url: URL of a Redis or Valkey to use, None to embed one.

        Raises:
            DataDirectoryError: If there is no place for the engines' sockets.
        """
        self._data: DataDirectory | None = None
        self._postgres: EmbeddedPostgres | None = None
        self._valkey: EmbeddedValkey | None = None
        if database_url is None or redis_url is None:
            self._data = DataDirectory(data_dir)
        if self._data is not None and database_url is None:
            self._postgres = EmbeddedPostgres(self._data)
        if self._data is not None and redis_url is None:
            self._valkey = EmbeddedValkey(self._data)
        self._database_url = database_url or ""
        self._redis_url = redis_url or ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the database, for the owner of its tables; the same after every restart.

        Raises:
            DatabaseUnavailable: If the database is embedded and was never started.
        """
        return self._database_url if self._postgres is None else self._postgres.url(OWNER_ROLE)

    @property
    def api_database_url(self) -> str:
        """As `database_url`, for the API's role; the same one if the database is not embedded."""
        return self._database_url if self._postgres is None else self._postgres.url(API_ROLE)

    @property
    def worker_database_url(self) -> str:
        """As `database_url`, for the workers' role; the same one if the database is not embedded."""
        return self._database_url if self._postgres is None else self._postgres.url(WORKER_ROLE)

    @property
    def redis_url(self) -> str:
        """URL of Redis; the same after every restart. An embedded one has a password from its first start."""
        return self._redis_url if self._valkey is None else self._valkey.url

    @property
    def redis_admin_url(self) -> str:
        """URL of Redis for its operator; of an embedded one, the account that may do everything."""
        return self._redis_url if self._valkey is None else self._valkey.admin_url

    def start(self) -> None:
        """Lock the data directory and start the embedded engines side by side; all of them or none.

        Raises:
            DataDirectoryInUse: If another emberq uses the data directory.
            DataDirectoryError: If the data directory cannot be used.
            DatabaseUnavailable: If PostgreSQL does not start.
            RedisUnavailable: If Valkey does not start.
        """
        if self._data is None:
            return
        self._data.acquire()
        try:
            self._start_engines()
        except BaseException:
            self.stop()
            raise

    def check(self) -> tuple[str, ...]:
        """Return the embedded engines that are dead or cannot be reached: `postgres`, `valkey`.

        None before `start`, after `stop`, or in a fork of the process that started them.
        """
        if self._data is None or not self._data.is_locked:
            return ()
        found = {"postgres": self._postgres, "valkey": self._valkey}
        return tuple(name for name, engine in found.items() if engine is not None and not engine.is_alive)

    def ensure(self) -> tuple[str, ...]:
        """Restart dead engines and bound the logs; call it regularly, from the main thread.

        Returns:
            The engines that were restarted.

        Raises:
            DatabaseUnavailable: If PostgreSQL does not start.
            RedisUnavailable: If Valkey does not start.
        """
        dead = self.check()
        if dead:
            _log.warning("engines_restarting", engines=dead)
            self._start_engines()
        for engine in (self._postgres, self._valkey):
            if engine is not None:
                engine.bound_log()
        return dead

    def stop(self) -> None:
        """Stop the embedded engines and unlock the data directory; does nothing if none runs."""
        for engine in (self._valkey, self._postgres):
            if engine is not None:
                engine.stop()
        if self._data is not None:
            self._data.release()

    def _start_engines(self) -> None:
        # Valkey loads while PostgreSQL starts. Without threads: an engine ends with its spawning thread.
        valkey = self._valkey if self._valkey is not None and not self._valkey.is_alive else None
        if valkey is not None:
            valkey.launch()
        if self._postgres is not None:
            self._postgres.start()
        if valkey is not None:
            valkey.wait()
