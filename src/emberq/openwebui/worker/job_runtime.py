"""What a horse has of its own for Open WebUI: an event loop in a thread, connections, the app's stand-in.

All of it is made after the fork, before the first job, and lives as long as the horse.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, TypeVar

from emberq.openwebui.worker.configuration import OpenWebUIConfiguration
from emberq.openwebui.worker.installed_modules import InstalledOpenWebUI
from emberq.openwebui.worker.rows import OpenWebUIFileRows
from emberq.openwebui.worker.warmup import warm_up
from emberq.telemetry.logs import get_logger

__all__ = ["JobRuntime"]

T = TypeVar("T")

log = get_logger(__name__)

#: Threads for what Open WebUI does outside its loop; a horse runs one job at a time. All are started before
#: the first job: to tell a thread that came in a job from one that leaked, all that is kept is looked
#: through, which writes to 5 MB of what horses share.
_MAX_THREADS = 4
#: How the names of threads begin that stay between jobs: ours, and those of `run_in_threadpool`.
_OUR_THREADS = ("openwebui", "AnyIO worker thread")
#: Connections of the asynchronous engine that one job uses at a time.
_WARM_CONNECTIONS = 3
#: Seconds that what is still under way gets to end, after a job and at the horse's end.
_END_SECONDS = 10.0


class JobRuntime:
    """A horse's loop, connections and stand-ins.

    Attributes:
        open_webui: What is installed.
        configuration: Its configuration, shared from before the fork and refreshed here.
        rows: The rows of files.
        is_stuck: Whether something of an ended job is still running; the horse must not go on then.
    """

    def __init__(self, open_webui: InstalledOpenWebUI, configuration: OpenWebUIConfiguration) -> None:
        """Start the loop; connections are opened by `warm_up`."""
        self.open_webui = open_webui
        self.configuration = configuration
        self.rows = OpenWebUIFileRows(open_webui.database.engine, open_webui.File)
        self.is_stuck = False
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(ThreadPoolExecutor(_MAX_THREADS, "openwebui"))
        self._thread = threading.Thread(target=self._loop.run_forever, name="openwebui-loop", daemon=True)
        self._thread.start()
        self._state = {
            "main_loop": self._loop,
            "ef": None,
            "rf": None,
            "EMBEDDING_FUNCTION": None,
            "redis": None,
        }
        self._app = SimpleNamespace(state=SimpleNamespace(**self._state))

    def warm_up(self) -> None:
        """Open the connections and start the threads that a job needs, so that the first one finds them."""
        for engine in self.open_webui.engines():
            with engine.connect() as one, engine.connect() as another:
                for connection in (one, another):
                    connection.exec_driver_sql("SELECT 1")
        self.run(self._open_at_once())
        # Pages that the first file would write to are this process's own after it.
        self.run(warm_up(self.open_webui, self.configuration.get()))

    async def _open_at_once(self) -> None:
        from anyio.to_thread import run_sync

        meet = threading.Barrier(_MAX_THREADS)
        find = self.open_webui.Files.get_file_by_id
        await asyncio.gather(
            *(find("") for _ in range(_WARM_CONNECTIONS)),
            *(asyncio.to_thread(meet.wait, _END_SECONDS) for _ in range(_MAX_THREADS)),
            # The threads of Open WebUI's own run_in_threadpool.
            *(run_sync(time.sleep, 0.001) for _ in range(2)),
        )

    @contextlib.contextmanager
    def request(self, *, embedder: Any) -> Iterator[Any]:
        """Give the stand-in of a request; what a job puts into it or into the app is forgotten after it."""
        vars(self._app.state).update(self._state, ef=embedder)
        try:
            yield SimpleNamespace(
                app=self._app, state=SimpleNamespace(), headers={}, cookies={}, query_params={}, client=None
            )
        finally:
            vars(self._app.state).clear()
            vars(self._app.state).update(self._state)

    def run(self, work: Coroutine[Any, Any, T], *, on_interruption: Callable[[], None] = lambda: None) -> T:
        """Run a coroutine on the loop and wait for it and for all that it started.

        Args:
            work: The coroutine.
            on_interruption: Called if the wait is interrupted, as by a time-out, to have the work end soon.
        """
        ended = threading.Event()

        async def to_its_end() -> T:
            try:
                return await work
            finally:
                await self._settle()
                ended.set()

        future = asyncio.run_coroutine_threadsafe(to_its_end(), self._loop)
        try:
            return future.result()
        finally:
            if not ended.is_set():
                on_interruption()
                future.cancel()
                self.is_stuck = not ended.wait(_END_SECONDS)
                if self.is_stuck:
                    log.error("openwebui_job_stuck", seconds=_END_SECONDS)

    async def _settle(self) -> None:
        """Wait for what was started on the side, such as webhooks that tell of the processed file."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            _, left = await asyncio.wait(others, timeout=_END_SECONDS)
            for task in left:
                task.cancel()

    def tidy(self) -> None:
        """End a job's use of the connections: sessions are closed, SQLite's files too."""
        engines = self.open_webui.engines()
        if self.open_webui.is_sqlite and not self.is_stuck:
            engines[0].dispose()
            self.run(self.open_webui.database.async_engine.dispose())

    def held(self) -> list[object]:
        """Return what stays open between jobs on purpose: nothing, once a job is stuck in it."""
        if self.is_stuck:
            return []
        database = self.open_webui.database
        pools = [engine.pool for engine in self.open_webui.engines()] + [
            database.async_engine.sync_engine.pool
        ]
        return [*pools, *(one for one in threading.enumerate() if one.name.startswith(_OUR_THREADS))]

    def close(self) -> None:
        """Close the connections and stop the loop."""
        with contextlib.suppress(Exception):
            self.run(self.open_webui.database.async_engine.dispose())
        for engine in self.open_webui.engines():
            engine.dispose()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_END_SECONDS)
