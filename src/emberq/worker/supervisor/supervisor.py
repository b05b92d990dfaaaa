"""The supervisor: N worker slots over one preload, each replaced when it dies, all reloaded without a gap."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import NoReturn

from redis.exceptions import RedisError

from emberq.system.forks import close_in_children
from emberq.system.memory import freeze_objects
from emberq.system.messages import send
from emberq.system.processes import die_with_parent, set_process_title
from emberq.telemetry.logs import get_logger
from emberq.worker.preloader.fork_server import Role
from emberq.worker.preloader.generations import Generation, Generations, NoGeneration
from emberq.worker.preloader.parked_socket import ParkedSocket
from emberq.worker.preloader.preloader import Preloader, PreloaderClient, start_preloader
from emberq.worker.supervisor.slots import CrashLoop, Slot, SlotProcess
from emberq.worker.supervisor.upkeep import OnDeath, SlotUpkeep

log = get_logger(__name__)

#: Runs one worker slot until it is told to stop: takes the slot's number, its access to the preloader, and
#: a function to call with the worker's name once it serves.
SlotRunner = Callable[[int, PreloaderClient, Callable[[str], None]], None]

#: Seconds between two checks of the processes.
_TICK_SECONDS = 0.1
#: Deaths in a row after which the supervisor gives up and ends with exit code 1.
_MAX_CRASHES = 10
#: Seconds all processes together may take until they serve, before `start` returns all the same.
_READY_SECONDS = 20.0
#: Seconds a slot that is told to requeue its job has for it.
_REQUEUE_SECONDS = 5.0
#: The same signal comes twice where a terminal and a process manager both send it.
_SAME_SIGNAL_SECONDS = 1.0


class Supervisor:
    """Keeps worker slots, and processes forked from the same preloader, alive until told to stop.

    A new generation (`reload`, SIGHUP, or a preloader that died) loads beside the old one; then the successor
    of one slot after the other is started and made ready before the process it replaces drains.

    Invariant: no process is left when `run` returns; `SlotUpkeep` has the slots' invariant.
    """

    def __init__(
        self,
        *,
        slots: int,
        run_slot: SlotRunner,
        roles: Mapping[str, Role],
        modules: Sequence[str] = (),
        services: Mapping[str, ParkedSocket] = MappingProxyType({}),
        shutdown_grace_seconds: Callable[[], float] = lambda: 30.0,
        max_crashes: int = _MAX_CRASHES,
        prepare: Callable[[], None] | None = None,
        on_death: OnDeath | None = None,
        on_start: Callable[[int], None] | None = None,
        label: Callable[[], str] = str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Describe what to keep alive.

        Args:
            slots: Number of worker slots.
            run_slot: The body of a slot's process.
            roles: The roles that the preloader can fork; `horse` for the slots. Those in `services` get what
                they listen on as the first message of their socket, and say that they serve by sending
                `{"ready": ""}` over it.
            modules: Modules whose resources are preloaded.
            services: Roles of which one process each is kept alive beside the slots, and the listening
                sockets that they serve on.
            shutdown_grace_seconds: Returns the time that running jobs get on SIGTERM.
            max_crashes: Deaths of one process in a row after which `run` gives up.
            prepare: Called first in every forked process, to forget connections it must not share.
            on_death: Called when a worker's process died without being asked to.
            on_start: Called with the id of each process that was started, before it gets what it listens on.
            label: Returns the label of a generation that is started now.
            clock: Tells the time in seconds.
        """
        self._run_slot = run_slot
        self._grace_seconds = shutdown_grace_seconds
        self._prepare = prepare or (lambda: None)
        self._on_start = on_start or (lambda _pid: None)
        self._clock = clock
        starts = {name: partial(self._start_service, name, parked) for name, parked in services.items()}
        starts |= {f"slot {number}": partial(self._start_worker, number) for number in range(1, slots + 1)}

        def start_generation() -> Preloader:
            preloader = start_preloader(roles, modules=modules, prepare=self._prepare)
            self._on_start(preloader.pid)
            return preloader

        generations = Generations(
            start_generation,
            max_failed_loads=max_crashes,
            label=label,
        )
        self._upkeep = SlotUpkeep(
            [Slot(name, start, clock=clock) for name, start in starts.items()],
            generations,
            max_crashes=max_crashes,
            on_death=on_death,
            clock=clock,
        )
        self._first_worker_slot = len(services)
        self._stop_requests = 0
        self._stop_requested_at = -_SAME_SIGNAL_SECONDS

    def slot_labels(self) -> list[str]:
        """Return the label of each slot's generation, in the order of the slots; `""` for an empty slot."""
        slots = self._upkeep.slots[self._first_worker_slot :]
        return [slot.current.generation.label if slot.current else "" for slot in slots]

    def start(self) -> None:
        """Load the resources and start everything; returns when all processes serve.

        Raises:
            PreloadFailed: If the resources could not be loaded.
            CrashLoop: If a process dies time and again before it serves.
        """
        set_process_title("supervisor")
        signal.signal(signal.SIGTERM, self.request_stop)
        signal.signal(signal.SIGINT, self.request_stop)
        signal.signal(signal.SIGHUP, lambda _number, _frame: self.reload("sighup"))
        gc.collect()
        freeze_objects()
        self._upkeep.generations.start(is_wanted=lambda: not self._stop_requests)
        self._upkeep.fill()
        deadline = self._clock() + _READY_SECONDS
        try:
            while not self._stop_requests and self._clock() < deadline and not self.all_serve():
                self._upkeep.check()
                time.sleep(_TICK_SECONDS / 10)
        except CrashLoop:
            self._stop_requests = 1
            self._drain(None)
            raise
        for slot in self._upkeep.slots:
            if not self._stop_requests and (slot.current is None or not slot.current.is_ready):
                log.warning("process_slow", process=slot.name, seconds=_READY_SECONDS)

    def all_serve(self) -> bool:
        """Tell whether there is a serving process in every slot."""
        return self._upkeep.all_serve()

    def reload(self, reason: str) -> None:
        """Load a new generation and move every slot over to it, one by one, without a gap."""
        self._upkeep.generations.request(reason)

    def run(self, *, tick: Callable[[], None] | None = None) -> int:
        """Keep the processes alive until SIGTERM or SIGINT; a second one hastens the stop, a third one kills.

        A stop that was asked for while they started counts as well.

        Args:
            tick: Called about ten times a second from the main thread.

        Returns:
            0 after a stop that was asked for, 1 if a process could not be kept alive.
        """
        code = 0
        try:
            while not self._stop_requests:
                self._upkeep.check()
                self._upkeep.generations.advance()
                self._upkeep.move_next_slot()
                self._upkeep.end_unused_generations()
                if tick is not None:
                    tick()
                time.sleep(_TICK_SECONDS)
        except CrashLoop as exc:
            log.error("crash_loop", error=exc.message)
            code = 1
        except NoGeneration:
            log.error("crash_loop", error="The resources could not be loaded, time and again.")
            code = 1
        self._drain(tick)
        return code

    def request_stop(self, _number: int, _frame: object) -> None:
        """Count a request to stop; the handler of SIGTERM and SIGINT."""
        now = self._clock()
        if now - self._stop_requested_at >= _SAME_SIGNAL_SECONDS:
            self._stop_requests += 1
            self._stop_requested_at = now

    def _drain(self, tick: Callable[[], None] | None) -> None:
        """Stop everything: time to finish, then requeue running jobs, then SIGKILL; preloaders go last."""
        grace_seconds = self._grace_seconds()
        log.info("draining", grace_seconds=grace_seconds)
        self._upkeep.signal_all(signal.SIGTERM)
        requeue_at = self._clock() + grace_seconds
        kill_at = requeue_at + _REQUEUE_SECONDS
        is_requeueing = False
        while self._upkeep.processes():
            self._upkeep.remove_ended()
            now = self._clock()
            if not is_requeueing and (now > requeue_at or self._stop_requests > 1):
                # To a worker the second SIGTERM means: requeue the job and leave.
                self._upkeep.signal_all(signal.SIGTERM)
                is_requeueing, kill_at = True, now + _REQUEUE_SECONDS
            if now > kill_at or self._stop_requests > 2:  # noqa: PLR2004 - the third request
                self._upkeep.signal_all(signal.SIGKILL)
            if tick is not None:
                tick()
            time.sleep(_TICK_SECONDS)
        self._upkeep.generations.end_all()

    def _start_service(self, role: str, listener: ParkedSocket, generation: Generation) -> SlotProcess:
        child = generation.preloader.fork(role)
        self._on_start(child.pid)
        with contextlib.suppress(OSError):
            # If it has ended already, that is noticed as every other end is.
            listener.give_to(child.channel)
        return SlotProcess(
            child.pid, generation, child.channel, is_preloader_child=True, started_at=self._clock()
        )

    def _start_worker(self, number: int, generation: Generation) -> SlotProcess:
        to_preloader = generation.preloader.connect()
        ours, theirs = socket.socketpair()
        close_in_children(ours)
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._run_worker(number, to_preloader, theirs, parent)
        to_preloader.close()
        theirs.close()
        self._on_start(pid)
        return SlotProcess(pid, generation, ours, is_preloader_child=False, started_at=self._clock())

    def _run_worker(
        self, number: int, to_preloader: socket.socket, channel: socket.socket, parent: int
    ) -> NoReturn:
        code = 1
        try:
            os.setpgid(0, 0)
            for caught in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(caught, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            die_with_parent(parent)
            set_process_title(f"worker in slot {number}")
            close_in_children(channel)
            self._prepare()
            self._run_slot(
                number, PreloaderClient(to_preloader), lambda worker: send(channel, {"ready": worker})
            )
            code = 0
        except SystemExit as exc:
            code = exc.code if isinstance(exc.code, int) else 0
        except RedisError as exc:
            # Without a traceback: Redis is away.
            log.error("slot_failed", slot=number, error=f"{type(exc).__name__}: {exc}")
        except BaseException as exc:
            log.exception("slot_failed", slot=number, error=type(exc).__name__)
        finally:
            os._exit(code)
