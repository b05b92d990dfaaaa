"""The supervisor: N worker slots over one preload, each replaced when it dies, all renewed without a gap."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NoReturn

from redis.exceptions import RedisError

from emberq.system.messages import send
from emberq.system.processes import die_with_parent, freeze_objects, process_state
from emberq.telemetry.logs import get_logger
from emberq.worker.preloader.generations import Generation, Generations, NoGeneration
from emberq.worker.preloader.preloader import PreloaderClient, PreloaderLost, Role, begin_preloader
from emberq.worker.supervisor.slots import CrashLoop, Slot, SlotProcess

__all__ = ["Death", "SlotRunner", "Supervisor"]

log = get_logger(__name__)

#: Runs one worker slot until it is told to stop: takes the slot's number, its way to the preloader, and
#: what to call with the worker's name once it serves.
SlotRunner = Callable[[int, PreloaderClient, Callable[[str], None]], None]
#: Hears of a worker process that died; takes the RQ worker's name.
Death = Callable[[str], None]

#: Seconds between two looks at the children.
_TICK_SECONDS = 0.1
#: Deaths in a row after which the supervisor gives up and says so by its exit code.
_MAX_CRASHES = 10
#: Seconds all processes together may take to say that they serve, before `start` returns all the same.
_READY_SECONDS = 20.0
#: Seconds a slot that is told to give its job back has for it.
_GIVE_BACK_SECONDS = 5.0
#: Seconds a slot may stand still by SIGSTOP before it is replaced; somebody may only have looked at it.
_STOPPED_SECONDS = 10.0
#: The same signal comes twice where a terminal and a process manager both send it.
_SAME_SIGNAL_SECONDS = 1.0


class Supervisor:
    """Keeps worker slots, and processes forked from the same preloader, alive until told to stop.

    A new generation (`renew`, SIGHUP, or a preloader that died) loads beside the old one; then each
    post's successor is started and made ready before the process it replaces drains.

    Invariant: one serving process per post, or none while it is being replaced after a death; no
    process is left when `run` returns.
    """

    def __init__(
        self,
        *,
        slots: int,
        run_slot: SlotRunner,
        roles: Mapping[str, Role],
        modules: Sequence[str] = (),
        services: Sequence[str] = (),
        shutdown_grace_seconds: Callable[[], float] = lambda: 30.0,
        max_crashes: int = _MAX_CRASHES,
        prepare: Callable[[], None] | None = None,
        on_death: Death | None = None,
        label: Callable[[], str] = str,
    ) -> None:
        """Describe what to keep alive.

        Args:
            slots: Number of worker slots.
            run_slot: The body of a slot's process.
            roles: What the preloader can fork; `horse` for the slots. Those in `services` say that they
                serve by sending `{"ready": ""}` over their socket.
            modules: Modules whose resources are preloaded.
            services: Roles of which one process each is kept alive beside the slots.
            shutdown_grace_seconds: Gives the time that running jobs get on SIGTERM.
            max_crashes: Deaths of one process in a row after which `run` gives up.
            prepare: Called first in every forked process, to forget what it must not share.
            on_death: Called when a worker's process died without being asked to.
            label: Says what a generation that begins now is made of.
        """
        self._run_slot = run_slot
        self._grace_seconds = shutdown_grace_seconds
        self._max_crashes = max_crashes
        self._prepare = prepare or (lambda: None)
        self._on_death = on_death
        self._posts = [
            *(Slot(name, partial(self._start_service, name)) for name in services),
            *(Slot(f"slot {number}", partial(self._start_slot, number)) for number in range(1, slots + 1)),
        ]
        self._slot_posts = self._posts[len(services) :]
        self._generations = Generations(
            lambda: begin_preloader(roles, modules=modules, prepare=self._prepare_child),
            max_failed_loads=max_crashes,
            label=label,
        )
        self._stop_requests = 0
        self._stop_requested_at = -_SAME_SIGNAL_SECONDS
        self._stopped_since: dict[int, float] = {}

    @property
    def generation(self) -> int:
        """The number of the newest generation that is ready."""
        newest = self._generations.newest
        return newest.number if newest is not None else 0

    def slot_labels(self) -> list[str]:
        """Return the label of each slot's generation, in the order of the slots; `""` for an empty slot."""
        return [post.current.generation.label if post.current else "" for post in self._slot_posts]

    def start(self) -> None:
        """Load the resources and start everything; returns when all processes serve.

        Raises:
            PreloadFailed: If the resources could not be loaded.
            CrashLoop: If a process does not come to serve.
        """
        signal.signal(signal.SIGTERM, self._request_stop)
        signal.signal(signal.SIGINT, self._request_stop)
        signal.signal(signal.SIGHUP, lambda _number, _frame: self.renew("sighup"))
        gc.collect()
        freeze_objects()
        self._generations.start(is_wanted=lambda: not self._stop_requests)
        self._fill_slots()
        deadline = time.monotonic() + _READY_SECONDS
        try:
            while not self._stop_requests and time.monotonic() < deadline and not self.all_serve():
                self._watch()
                time.sleep(_TICK_SECONDS / 10)
        except CrashLoop:
            self._stop_requests = 1
            self._drain(None)
            raise
        for post in self._posts:
            if not self._stop_requests and (post.current is None or not post.current.is_ready):
                log.warning("process_slow", process=post.name, seconds=_READY_SECONDS)

    def all_serve(self) -> bool:
        """Tell whether there is a serving process at every post."""
        return all(post.current is not None and post.current.is_ready for post in self._posts)

    def renew(self, reason: str) -> None:
        """Load a new generation and move every post over to it, one by one, without a gap."""
        self._generations.want(reason)

    def run(self, *, tick: Callable[[], None] | None = None) -> int:
        """Watch over the processes until SIGTERM or SIGINT; a second one hastens, a third one kills.

        A stop that was asked for while they started counts as well.

        Args:
            tick: Called about ten times a second from the main thread.

        Returns:
            0 after a stop that was asked for, 1 if a process could not be kept alive.
        """
        code = 0
        try:
            while not self._stop_requests:
                self._watch()
                self._advance()
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

    def _request_stop(self, _number: int, _frame: object) -> None:
        now = time.monotonic()
        if now - self._stop_requested_at >= _SAME_SIGNAL_SECONDS:
            self._stop_requests += 1
            self._stop_requested_at = now

    def _prepare_child(self) -> None:
        """Close, in a forked child, this process's ends of all channels: a held end hides a death."""
        self._generations.close_channels()
        for one in self._slot_processes():
            one.channel.close()
        self._prepare()

    def _slot_processes(self) -> list[SlotProcess]:
        return [one for post in self._posts for one in post.processes()]

    def _fill_slots(self) -> None:
        """Start a process in every empty post whose pause is over."""
        newest = self._generations.newest
        for post in self._posts:
            if newest is None or post.current is not None or time.monotonic() < post.not_before:
                continue
            post.current = self._try_start(post, newest)

    def _try_start(self, post: Slot, generation: Generation) -> SlotProcess | None:
        try:
            started = post.start(generation)
        except (PreloaderLost, OSError) as exc:
            log.warning("start_failed", process=post.name, error=type(exc).__name__)
            return None
        log.info("process_started", process=post.name, process_pid=started.pid, generation=generation.number)
        return started

    def _start_service(self, role: str, generation: Generation) -> SlotProcess:
        child = generation.preloader.fork(role)
        return SlotProcess(child.pid, generation, child.channel, of_preloader=True)

    def _start_slot(self, number: int, generation: Generation) -> SlotProcess:
        to_preloader = generation.preloader.connect()
        ours, theirs = socket.socketpair()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            ours.close()
            self._run_slot_process(number, to_preloader, theirs, parent)
        to_preloader.close()
        theirs.close()
        return SlotProcess(pid, generation, ours, of_preloader=False)

    def _run_slot_process(
        self, number: int, to_preloader: socket.socket, channel: socket.socket, parent: int
    ) -> NoReturn:
        code = 1
        try:
            os.setpgid(0, 0)
            for caught in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(caught, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            die_with_parent(parent, with_signal=signal.SIGTERM)
            self._prepare_child()
            self._run_slot(
                number, PreloaderClient(to_preloader), lambda worker: send(channel, {"ready": worker})
            )
            code = 0
        except SystemExit as exc:
            code = exc.code if isinstance(exc.code, int) else 0
        except RedisError as exc:
            # Where it was called from says nothing: Redis is away.
            log.error("slot_failed", slot=number, error=f"{type(exc).__name__}: {exc}")
        except BaseException as exc:
            log.exception("slot_failed", slot=number, error=type(exc).__name__)
        finally:
            os._exit(code)

    def _watch(self) -> None:
        """Take note of deaths and readiness, and fill what is empty."""
        ended = self._collect_exits()
        for post in self._posts:
            for one in post.processes():
                one.look()
                if one.pid in ended or (one.of_preloader and one.generation.state == "lost"):
                    self._note_end(post, one, ended.get(one.pid, signal.SIGKILL))
                elif process_state(one.pid) == "T":
                    self._note_stopped(post, one)
                else:
                    self._stopped_since.pop(one.pid, None)
        self._fill_slots()

    def _note_end(self, post: Slot, one: SlotProcess, status: int) -> None:
        """Take an ended process off its post; what nobody asked for is counted and reported."""
        was_leaving, was_successor = one in post.leaving, one is post.successor
        post.forget(one)
        self._stopped_since.pop(one.pid, None)
        code = os.waitstatus_to_exitcode(status)
        if was_leaving and code == 0:
            return
        log.warning("process_died", process=post.name, process_pid=one.pid, status=code)
        if one.worker and self._on_death is not None:
            self._on_death(one.worker)
        if was_successor:
            one.generation.note_failure()
        elif not was_leaving and one.generation.state != "lost":
            pause = post.note_crash(time.monotonic() - one.started_at, most=self._max_crashes)
            log.info("process_restarts", process=post.name, in_seconds=pause, crashes=post.crashes)

    def _note_stopped(self, post: Slot, one: SlotProcess) -> None:
        """End a process that has been standing still for too long; it cannot be asked."""
        since = self._stopped_since.setdefault(one.pid, time.monotonic())
        if time.monotonic() - since > _STOPPED_SECONDS:
            log.warning("process_stopped", process=post.name, process_pid=one.pid, seconds=_STOPPED_SECONDS)
            one.signal(signal.SIGKILL)

    def _advance(self) -> None:
        """Take the next step of a renewal: load, then hand over one post after the other."""
        self._generations.advance()
        newest = self._generations.newest
        if newest is not None:
            self._hand_over(newest)
        self._generations.end_unused({one.generation for one in self._slot_processes()})

    def _hand_over(self, newest: Generation) -> None:
        for post in self._posts:
            current, successor = post.current, post.successor
            if current is None or current.generation is newest:
                continue
            if successor is None:
                if time.monotonic() >= post.not_before:
                    post.successor = self._try_start(post, newest)
            elif successor.is_ready:
                log.info("process_handed_over", process=post.name, generation=newest.number)
                post.hand_over()
            # One post at a time: memory for one more process is enough, and most go on serving.
            return

    def _collect_exits(self) -> dict[int, int]:
        ended: dict[int, int] = {}
        for one in self._slot_processes():
            if not one.of_preloader:
                with contextlib.suppress(ChildProcessError):
                    pid, status = os.waitpid(one.pid, os.WNOHANG)
                    if pid:
                        ended[pid] = status
        return ended | self._generations.poll_exits()

    def _drain(self, tick: Callable[[], None] | None) -> None:
        """Stop everything: time to finish, then give back what runs, then SIGKILL; preloaders go last."""
        grace_seconds = self._grace_seconds()
        log.info("draining", grace_seconds=grace_seconds)
        self._signal_all(signal.SIGTERM)
        hasten_at = time.monotonic() + grace_seconds
        kill_at = hasten_at + _GIVE_BACK_SECONDS
        hastened = False
        while self._slot_processes():
            self._collect_ends()
            now = time.monotonic()
            if not hastened and (now > hasten_at or self._stop_requests > 1):
                # To a worker the second SIGTERM means: give the job back and leave.
                self._signal_all(signal.SIGTERM)
                hastened, kill_at = True, now + _GIVE_BACK_SECONDS
            if now > kill_at or self._stop_requests > 2:  # noqa: PLR2004 - the third request
                self._signal_all(signal.SIGKILL)
            if tick is not None:
                tick()
            time.sleep(_TICK_SECONDS)
        self._generations.end_all()

    def _collect_ends(self) -> None:
        ended = self._collect_exits()
        for post in self._posts:
            for one in post.processes():
                if one.pid in ended or (one.of_preloader and one.generation.state == "lost"):
                    post.forget(one)

    def _signal_all(self, number: signal.Signals) -> None:
        for one in self._slot_processes():
            one.signal(number)
