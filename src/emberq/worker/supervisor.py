"""The supervisor: one preloader, N worker slots, each replaced when it dies."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

from emberq.telemetry.logs import get_logger
from emberq.worker.preloader import Preloader, PreloaderClient, PreloaderLost, Role, start_preloader
from emberq.worker.processes import die_with_parent

__all__ = ["SlotRunner", "Supervisor"]

log = get_logger(__name__)

#: Runs one worker slot until it is told to stop: takes the slot's number and its way to the preloader.
SlotRunner = Callable[[int, PreloaderClient], None]

#: Seconds between two looks at the children.
_TICK_SECONDS = 0.1
#: Seconds a slot must live for its death not to count as part of a crash loop.
_HEALTHY_SECONDS = 10.0
#: Longest pause before a crashing slot is started again.
_MAX_BACKOFF_SECONDS = 30.0
#: Deaths in a row after which the supervisor gives up and says so by its exit code.
_MAX_CRASHES = 10


@dataclass(slots=True)
class _Process:
    """A child the supervisor keeps alive."""

    name: str
    start: Callable[[], int]
    #: Whether the preloader is its parent, and so the one who hears of its end.
    of_preloader: bool = False
    pid: int = 0
    started_at: float = 0.0
    crashes: int = 0
    not_before: float = 0.0


class Supervisor:
    """Keeps worker slots, and processes forked from the same preloader, alive until told to stop.

    Invariant: at most one process per slot; none is left when `run` returns.
    """

    def __init__(
        self,
        *,
        slots: int,
        run_slot: SlotRunner,
        roles: Mapping[str, Role],
        modules: Sequence[str] = (),
        services: Sequence[str] = (),
        shutdown_grace_seconds: float = 30.0,
    ) -> None:
        """Describe what to keep alive.

        Args:
            slots: Number of worker slots.
            run_slot: The body of a slot's process.
            roles: What the preloader can fork; `horse` for the slots.
            modules: Modules whose resources are preloaded.
            services: Roles of which one process each is kept alive beside the slots.
            shutdown_grace_seconds: Time running jobs get on SIGTERM.
        """
        self._slots = slots
        self._run_slot = run_slot
        self._roles = roles
        self._modules = modules
        self._services = services
        self._grace_seconds = shutdown_grace_seconds
        self._preloader: Preloader | None = None
        self._processes: list[_Process] = []
        self._stop_requests = 0

    def start(self) -> None:
        """Load the resources and start everything; returns when all processes run.

        Raises:
            RuntimeError: If the resources could not be loaded.
        """
        self._preloader = start_preloader(self._roles, modules=self._modules)
        for name in self._services:
            self._processes.append(_Process(name, partial(self._start_service, name), of_preloader=True))
        for number in range(1, self._slots + 1):
            self._processes.append(_Process(f"slot {number}", partial(self._start_slot, number)))
        for process in self._processes:
            self._spawn(process)

    def run(self, *, tick: Callable[[], None] | None = None) -> int:
        """Watch over the processes until SIGTERM or SIGINT; a second signal hastens.

        Args:
            tick: Called about ten times a second from the main thread.

        Returns:
            0 after a stop that was asked for, 1 if a process could not be kept alive.
        """
        signal.signal(signal.SIGTERM, self._request_stop)
        signal.signal(signal.SIGINT, self._request_stop)
        code = 0
        try:
            while not self._stop_requests:
                self._watch()
                if tick is not None:
                    tick()
                time.sleep(_TICK_SECONDS)
        except PreloaderLost:
            log.error("preloader_lost")
            code = 1
        except _CrashLoop as exc:
            log.error("crash_loop", process=str(exc), crashes=_MAX_CRASHES)
            code = 1
        self._drain(tick)
        return code

    def _request_stop(self, _number: int, _frame: object) -> None:
        self._stop_requests += 1

    def _spawn(self, process: _Process) -> None:
        process.pid = process.start()
        process.started_at = time.monotonic()
        log.info("process_started", process=process.name, process_pid=process.pid)

    def _start_service(self, role: str) -> int:
        if self._preloader is None:
            raise PreloaderLost
        child = self._preloader.fork(role)
        child.channel.close()
        return child.pid

    def _start_slot(self, number: int) -> int:
        if self._preloader is None:
            raise PreloaderLost
        channel = self._preloader.connect()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._run_slot_process(number, channel, parent)
        channel.close()
        return pid

    def _run_slot_process(self, number: int, channel: socket.socket, parent: int) -> NoReturn:
        code = 1
        try:
            os.setpgid(0, 0)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            die_with_parent(parent, with_signal=signal.SIGTERM)
            if self._preloader is not None:
                self._preloader.channel.close()
            self._run_slot(number, PreloaderClient(channel))
            code = 0
        except SystemExit as exc:
            code = exc.code if isinstance(exc.code, int) else 0
        except BaseException as exc:
            log.exception("slot_failed", slot=number, error=type(exc).__name__)
        os._exit(code)

    def _watch(self) -> None:
        ended = self._collect_exits()
        now = time.monotonic()
        for process in self._processes:
            if process.pid in ended:
                self._note_death(process, ended[process.pid], now)
            if process.pid == 0 and now >= process.not_before:
                self._spawn(process)

    def _note_death(self, process: _Process, status: int, now: float) -> None:
        lived = now - process.started_at
        process.crashes = 1 if lived > _HEALTHY_SECONDS else process.crashes + 1
        if process.crashes >= _MAX_CRASHES:
            raise _CrashLoop(process.name)
        pause = 0.0 if process.crashes == 1 else min(0.2 * 2**process.crashes, _MAX_BACKOFF_SECONDS)
        log.warning(
            "process_died",
            process=process.name,
            process_pid=process.pid,
            status=os.waitstatus_to_exitcode(status),
            restart_in_seconds=pause,
        )
        process.pid = 0
        process.not_before = now + pause

    def _collect_exits(self) -> dict[int, int]:
        ended: dict[int, int] = {}
        for process in self._processes:
            if process.pid and not process.of_preloader:
                with contextlib.suppress(ChildProcessError):
                    pid, status = os.waitpid(process.pid, os.WNOHANG)
                    if pid:
                        ended[pid] = status
        if self._preloader is not None:
            ended.update(self._preloader.poll_exits())
        return ended

    def _drain(self, tick: Callable[[], None] | None) -> None:
        """Stop everything: SIGTERM, time to finish, then SIGKILL; the preloader goes last."""
        log.info("draining", grace_seconds=self._grace_seconds)
        self._signal_all(signal.SIGTERM)
        deadline = time.monotonic() + self._grace_seconds
        requests = self._stop_requests
        while any(process.pid for process in self._processes):
            try:
                ended = self._collect_exits()
            except PreloaderLost:
                ended = {process.pid: 0 for process in self._processes if process.of_preloader}
                self._preloader = None
            for process in self._processes:
                if process.pid in ended:
                    process.pid = 0
            if time.monotonic() > deadline or self._stop_requests > max(requests, 1):
                self._signal_all(signal.SIGKILL)
            if tick is not None:
                tick()
            time.sleep(_TICK_SECONDS)
        if self._preloader is not None:
            self._preloader.stop()
            self._preloader = None

    def _signal_all(self, number: signal.Signals) -> None:
        for process in self._processes:
            if process.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, number)


class _CrashLoop(Exception):
    """A process died too often in a row."""
