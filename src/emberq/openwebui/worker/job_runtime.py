"""A horse's own runtime for Open WebUI: an event loop in a thread, connections, and a stand-in for the app.

It is created after the fork, before the first job, and lives as long as the horse.
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

T = TypeVar("T")

log = get_logger(__name__)

#: Threads for Open WebUI's blocking calls; a horse runs one job at a time. All are started before the first
#: job: a thread that first appears in a job makes the horse search all its objects for kept connections, and
#: that search writes to 5 MB of memory that horses share.
_MAX_THREADS = 4
#: Names of the threads that stay open between jobs: the runtime's, and those of `run_in_threadpool`.
_THREAD_NAMES = ("openwebui", "AnyIO worker thread")
#: Connections of the asynchronous engine that one job uses at a time.
_WARM_CONNECTIONS = 3
#: Seconds for background tasks to end, after a job and at the horse's end.
_END_SECONDS = 10.0


class JobRuntime:
    """A horse's event loop, connections and stand-in for the app.

    Attributes:
        open_webui: The installed Open WebUI.
        configuration: Its configuration, read before the fork and refreshed here.
        rows: The rows of files.
        is_stuck: Whether work of an ended job still runs; the horse must not run another job then.
    """

    def __init__(self, open_webui: InstalledOpenWebUI, configuration: OpenWebUIConfiguration) -> None:
        """Start the loop; `warm_up` opens the connections."""
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
        """Open the connections and start the threads that the first job needs."""
        for engine in self.open_webui.engines():
            with engine.connect() as first, engine.connect() as second:
                for connection in (first, second):
                    connection.exec_driver_sql("SELECT 1")
        self.run(self._open_all())
        # Copies the memory pages that the first file would write to, before the first file comes.
        self.run(warm_up(self.open_webui, self.configuration.get()))

    async def _open_all(self) -> None:
        from anyio.to_thread import run_sync

        barrier = threading.Barrier(_MAX_THREADS)
        find = self.open_webui.Files.get_file_by_id
        await asyncio.gather(
            *(find("") for _ in range(_WARM_CONNECTIONS)),
            *(asyncio.to_thread(barrier.wait, _END_SECONDS) for _ in range(_MAX_THREADS)),
            # The threads of Open WebUI's run_in_threadpool.
            *(run_sync(time.sleep, 0.001) for _ in range(2)),
        )

    @contextlib.contextmanager
    def request(self, *, embedder: Any) -> Iterator[Any]:
        """Yield a stand-in for a request; changes to its app are undone at the end of the block.

        Args:
            embedder: The embedding model in this process; None if another engine is used.
        """
        vars(self._app.state).update(self._state, ef=embedder)
        try:
            yield SimpleNamespace(
                app=self._app, state=SimpleNamespace(), headers={}, cookies={}, query_params={}, client=None
            )
        finally:
            vars(self._app.state).clear()
            vars(self._app.state).update(self._state)

    def run(self, work: Coroutine[Any, Any, T], *, on_interruption: Callable[[], None] = lambda: None) -> T:
        """Run a coroutine on the loop, and wait for it and for the tasks that it started.

        Args:
            work: The coroutine.
            on_interruption: Called if the wait is interrupted, e.g. by the job's time limit; makes the work
                end soon.
        """
        ended = threading.Event()

        async def run_to_end() -> T:
            try:
                return await work
            finally:
                await self._end_background_tasks()
                ended.set()

        future = asyncio.run_coroutine_threadsafe(run_to_end(), self._loop)
        try:
            return future.result()
        finally:
            if not ended.is_set():
                on_interruption()
                future.cancel()
                self.is_stuck = not ended.wait(_END_SECONDS)
                if self.is_stuck:
                    log.error("openwebui_job_stuck", seconds=_END_SECONDS)

    async def _end_background_tasks(self) -> None:
        """Wait for background tasks, such as webhooks for the processed file; cancel those that take long."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        if tasks:
            _, unfinished = await asyncio.wait(tasks, timeout=_END_SECONDS)
            for task in unfinished:
                task.cancel()

    def end_job(self) -> None:
        """Close a job's sessions, and all connections to SQLite."""
        engines = self.open_webui.engines()
        if self.open_webui.is_sqlite and not self.is_stuck:
            engines[0].dispose()
            self.run(self.open_webui.database.async_engine.dispose())

    def kept_open(self) -> list[object]:
        """Return the pools and threads that stay open between jobs; none if a job is stuck in them."""
        if self.is_stuck:
            return []
        pools = [engine.pool for engine in self.open_webui.engines()]
        threads = [thread for thread in threading.enumerate() if thread.name.startswith(_THREAD_NAMES)]
        return [*pools, self.open_webui.database.async_engine.sync_engine.pool, *threads]

    def close(self) -> None:
        """Close the connections and stop the loop."""
        with contextlib.suppress(Exception):
            self.run(self.open_webui.database.async_engine.dispose())
        for engine in self.open_webui.engines():
            engine.dispose()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_END_SECONDS)
