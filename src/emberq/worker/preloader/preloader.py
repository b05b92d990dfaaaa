"""The preloader: a single-threaded process that has the resources loaded and forks on request.

Forking from it is safe (no threads, no connections) and quick (the pages are shared until written).
It runs no jobs. A client, which is a process with an end of a channel to it, asks for a child in one of its
roles and gets a socket to that child; when the client goes away, its children are ended.
"""

from __future__ import annotations

import contextlib
import gc
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from emberq.errors import InvalidRequest
from emberq.system.memory import freeze_objects, return_big_blocks
from emberq.system.messages import Message, is_readable, receive, send
from emberq.system.processes import count_threads, die_with_parent, set_process_title, thread_names
from emberq.telemetry.logs import get_logger
from emberq.worker.job.tempdirs import discard_directory, make_root, remove_root
from emberq.worker.preloader.spawn import Spawnable, exec_interpreter, make_spawn_spec
from emberq.worker.resources.resources import close_resources, needs_spawn, preload

__all__ = [
    "Child",
    "PreloadFailed",
    "Preloader",
    "PreloaderClient",
    "PreloaderLost",
    "Role",
    "start_preloader",
]

log = get_logger(__name__)

#: What a forked child runs: takes the request's spec and the socket to the client that asked for it.
Role = Callable[[Message, socket.socket], None]

#: Seconds that the threads that loaded the resources get to be gone.
_THREAD_END_SECONDS = 0.5
#: Seconds the resources may take to clean up after themselves.
_CLEAN_UP_SECONDS = 10
#: Seconds a child's exit notice may take after its socket closed; the kernel needs microseconds.
_EXIT_NOTICE_SECONDS = 5.0


class PreloadFailed(InvalidRequest):
    """The resources could not be loaded."""

    default_hint = "Correct what --preload (EMBERQ_PRELOAD) names; the log has the traceback."


class PreloaderLost(Exception):
    """The preloader process is gone; its clients end, so that a supervisor starts all of them anew."""


@dataclass(frozen=True, slots=True)
class Child:
    """A process that the preloader forked.

    Attributes:
        pid: Its process id; also its process group.
        channel: The socket to it; closes when it ends.
        is_spawned: Whether it is a fresh interpreter, which first loads and then says `loaded`.
    """

    pid: int
    channel: socket.socket
    is_spawned: bool = False


class PreloaderClient:
    """A process's access to the preloader: one end of a channel to it."""

    def __init__(self, channel: socket.socket) -> None:
        """Use a channel that the preloader serves."""
        self.channel = channel
        self._exits: dict[int, int] = {}

    def fork(self, role: str, spec: Message | None = None) -> Child:
        """Ask for a child in a role; takes a few milliseconds.

        Raises:
            PreloaderLost: If the preloader is gone.
        """
        try:
            send(self.channel, {"fork": role, "spec": spec or {}})
        except OSError as exc:
            raise PreloaderLost from exc
        while True:
            message, descriptors = self._next()
            if "forked" in message:
                return Child(message["forked"], socket.socket(fileno=descriptors[0]), message["spawned"])

    def connect(self) -> socket.socket:
        """Return a new channel to the same preloader, for another process to use."""
        ours, theirs = socket.socketpair()
        with theirs:
            send(self.channel, {"serve": True}, descriptors=[theirs.fileno()])
        return ours

    def exit_status(self, pid: int, *, timeout_seconds: float = _EXIT_NOTICE_SECONDS) -> int | None:
        """Wait for a child's end and return its wait status, nothing if none came in time."""
        deadline = time.monotonic() + timeout_seconds
        while pid not in self._exits:
            left = deadline - time.monotonic()
            if left <= 0 or not is_readable(self.channel, left):
                return None
            self._next()
        return self._exits.pop(pid)

    def poll_exits(self) -> dict[int, int]:
        """Return the wait statuses, by process id, of ended children that were not returned yet."""
        while is_readable(self.channel, 0):
            self._next()
        exits, self._exits = self._exits, {}
        return exits

    def _next(self) -> tuple[Message, list[int]]:
        message, descriptors = receive(self.channel)
        if message is None:
            raise PreloaderLost
        if "exited" in message:
            self._exits[message["exited"]] = message["status"]
        return message, descriptors


class Preloader(PreloaderClient):
    """The owner's handle of a preloader process; closing it ends the process and all it forked."""

    def __init__(self, pid: int, channel: socket.socket) -> None:
        """Own a preloader that `start_preloader` forked."""
        super().__init__(channel)
        self.pid = pid

    def is_ready(self) -> bool:
        """Tell, without waiting, whether the resources are loaded.

        Raises:
            PreloadFailed: If a resource could not be loaded; the message says which error.
        """
        if not is_readable(self.channel, 0):
            return False
        self.wait_ready()
        return True

    def wait_ready(self) -> None:
        """Wait until the resources are loaded.

        Raises:
            PreloadFailed: If a resource could not be loaded; the message says which error.
        """
        ready, _ = receive(self.channel)
        if ready is not None and "failed" not in ready:
            return
        self.stop()
        reason = ready["failed"] if ready else "the process died"
        raise PreloadFailed(f"The resources could not be loaded: {reason}")

    def stop(self) -> None:
        """End the preloader and everything it forked, and reap it."""
        with contextlib.suppress(OSError):
            # Closes it in every process that inherited it, such as a child that the owner forked meanwhile.
            self.channel.shutdown(socket.SHUT_RDWR)
        self.channel.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def start_preloader(
    roles: Mapping[str, Role], *, modules: Sequence[str] = (), prepare: Callable[[], None] | None = None
) -> Preloader:
    """Fork a preloader, which then loads the resources; its `wait_ready` and `is_ready` tell when it has.

    Call it before the process has threads, from the main thread.

    Args:
        roles: What the preloader can fork, by name.
        modules: Modules whose resources are loaded.
        prepare: Called first in the new process, e.g. to forget connections it inherited.
    """
    ours, theirs = socket.socketpair()
    owner = os.getpid()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _run(theirs, owner, roles, modules, prepare)
    theirs.close()
    return Preloader(pid, ours)


def _run(
    control: socket.socket,
    owner: int,
    roles: Mapping[str, Role],
    modules: Sequence[str],
    prepare: Callable[[], None] | None,
) -> NoReturn:
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        die_with_parent(owner)
        set_process_title("preloader")
        if prepare is not None:
            prepare()
        return_big_blocks()
        try:
            loaded = preload(modules, before_fork=True)
        except Exception as exc:
            log.exception("preload_failed", error=type(exc).__name__)
            send(control, {"failed": f"{type(exc).__name__}: {exc}"})
            os._exit(1)
        if loaded:
            # Garbage of loading; without resources a worker saves some 100 ms here.
            gc.collect()
        freeze_objects()
        _warn_of_threads()
        with contextlib.suppress(OSError):
            make_root()
        send(control, {"ready": True})
        server = _Server(control, roles, modules)
        server.serve()
        server.end_children()
        # With the default action: it ends the process if the clean-up hangs.
        signal.alarm(_CLEAN_UP_SECONDS)
        remove_root()
        close_resources()
        code = 0
    except BaseException as exc:
        log.exception("preloader_failed", error=type(exc).__name__)
    finally:
        # Even if logging fails: the stack below belongs to the process that forked this one.
        os._exit(code)


class _Server:
    """The preloader's loop: fork requests in, exit notices out.

    Invariant: a child belongs to the client that asked for it and does not outlive it. The loop ends when
    the owner, which has the other end of `control`, is disconnected.
    """

    def __init__(self, control: socket.socket, roles: Mapping[str, Role], modules: Sequence[str]) -> None:
        self._control = control
        self._roles = roles
        self._modules = modules
        self._children: dict[int, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ)
        self._wake_read, self._wake_write = os.pipe()
        for descriptor in (self._wake_read, self._wake_write):
            os.set_blocking(descriptor, False)
        self._selector.register(self._wake_read, selectors.EVENT_READ)

    def serve(self) -> None:
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        while self._control.fileno() >= 0:
            for key, _ in self._selector.select():
                if isinstance(key.fileobj, socket.socket):
                    self._handle(key.fileobj)
                else:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._wake_read, 4096)
            self._reap()

    def _handle(self, client: socket.socket) -> None:
        """Answer one request."""
        message, descriptors = receive(client)
        if message is None:
            self._disconnect(client)
        elif "serve" in message:
            self._selector.register(socket.socket(fileno=descriptors[0]), selectors.EVENT_READ)
        elif "fork" in message:
            self._fork(client, message["fork"], message["spec"])

    def _fork(self, client: socket.socket, role_name: str, spec: Message) -> None:
        ours, theirs = socket.socketpair()
        role: object = self._roles.get(role_name)
        spawn_spec: Message | None = None
        if needs_spawn() and isinstance(role, Spawnable):
            spawn_spec = make_spawn_spec(role, spec, modules=self._modules)
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            ours.close()
            self._run_child(parent, theirs, role_name, spec, spawned=spawn_spec is not None)
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        self._children[pid] = client
        with ours, theirs:
            if spawn_spec is not None:
                with contextlib.suppress(OSError):
                    send(ours, spawn_spec)
            answer = {"forked": pid, "spawned": spawn_spec is not None}
            try:
                send(client, answer, descriptors=[ours.fileno()])
            except OSError:
                self._disconnect(client)

    def _run_child(
        self, parent: int, channel: socket.socket, role_name: str, spec: Message, *, spawned: bool
    ) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setpgid(0, 0)
            die_with_parent(parent)
            for key in list(self._selector.get_map().values()):
                if isinstance(key.fileobj, socket.socket):
                    key.fileobj.close()
            self._selector.close()
            os.close(self._wake_read)
            os.close(self._wake_write)
            if spawned:
                exec_interpreter(channel)
            set_process_title(role_name)
            self._roles[role_name](spec, channel)
            code = 0
        except SystemExit as exc:
            code = exc.code if isinstance(exc.code, int) else 0
        except BaseException as exc:
            log.exception("child_failed", role=role_name, error=type(exc).__name__)
        finally:
            # Even if logging fails, as where the job has closed the log.
            os._exit(code)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            discard_directory(pid)
            client = self._children.pop(pid, None)
            if client is not None:
                with contextlib.suppress(OSError):
                    send(client, {"exited": pid, "status": status})

    def end_children(self) -> None:
        """Kill and reap all children, so that none works with resources that are being cleaned up."""
        for client in set(self._children.values()):
            self._disconnect(client)
        with contextlib.suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)

    def _disconnect(self, client: socket.socket) -> None:
        for pid, owner in list(self._children.items()):
            if owner is client:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
                del self._children[pid]
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(client)
        client.close()


def _warn_of_threads() -> None:
    """Warn if a thread still runs besides the main one: no forked child will have it."""
    deadline = time.monotonic() + _THREAD_END_SECONDS
    # The kernel counts a joined thread for a moment longer.
    while count_threads() > 1 and time.monotonic() < deadline:
        time.sleep(0.001)
    if count_threads() > 1:
        log.warning(
            "preloader_has_threads",
            threads=thread_names(),
            hint="Declare the resource that starts them with @resource(fork_safe=False).",
        )
