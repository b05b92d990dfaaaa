"""The body of the preloader process: loads the resources, then forks children in their roles.

It has one thread and no connections. The messages of its channels:

=========  ==========  ============================================================================
message    sent by     says
=========  ==========  ============================================================================
`ready`    preloader   the resources are loaded; sent to the owner, as is `failed` with the reason
`fork`     client      fork a child in this role, with this spec
`forked`   preloader   the answer: process id, whether it was spawned, and the socket to the child
`serve`    client      serve another client, at the other end of the socket that comes along
`exited`   preloader   a child of the client has ended, with its wait status
=========  ==========  ============================================================================
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
from typing import NoReturn

from emberq.system.forks import close_in_children, close_what_horses_keep
from emberq.system.memory import freeze_objects, return_big_blocks
from emberq.system.messages import Message, receive, send
from emberq.system.processes import count_threads, die_with_parent, set_process_title, thread_names
from emberq.telemetry.logs import get_logger
from emberq.worker.job.tempdirs import discard_directory, make_root, remove_root
from emberq.worker.preloader.spawn import Spawnable, exec_interpreter, make_spawn_spec
from emberq.worker.resources.resources import close_resources, needs_spawn, preload

log = get_logger(__name__)

#: What a forked child runs: takes the request's spec and the socket to the client that asked for it.
Role = Callable[[Message, socket.socket], None]

#: The role that jobs run in.
_HORSE = "horse"
#: Seconds that the threads that loaded the resources get to be gone.
_THREAD_END_SECONDS = 0.5
#: Seconds the resources may take to clean up after themselves.
_CLEAN_UP_SECONDS = 10


def run_preloader(
    control: socket.socket,
    owner: int,
    roles: Mapping[str, Role],
    *,
    modules: Sequence[str],
    prepare: Callable[[], None] | None,
) -> NoReturn:
    """Load the resources, say so, and fork on request until the owner leaves.

    Args:
        control: The channel to the owner.
        owner: Its process id.
        roles: What the preloader can fork, by name.
        modules: Modules whose resources are loaded.
        prepare: Called first.
    """
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
        server = ForkServer(control, roles, modules)
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


class ForkServer:
    """The preloader's loop: fork requests in, exit notices out. Each horse is forked here.

    Invariant: a child belongs to the client that asked for it and does not outlive it. The loop ends when
    the owner, which has the other end of `control`, is disconnected.
    """

    def __init__(self, control: socket.socket, roles: Mapping[str, Role], modules: Sequence[str]) -> None:
        self._control = control
        self._roles = roles
        self._modules = modules
        self._children: dict[int, socket.socket] = {}
        #: Also those whose client is gone, until they are reaped.
        self._running: set[int] = set()
        self._selector = close_in_children(selectors.DefaultSelector())
        self._selector.register(close_in_children(control), selectors.EVENT_READ)
        self._wake_read, self._wake_write = os.pipe()
        for descriptor in (self._wake_read, self._wake_write):
            os.set_blocking(descriptor, False)
        self._selector.register(self._wake_read, selectors.EVENT_READ)

    def serve(self) -> None:
        """Answer requests and tell of ended children until the owner is disconnected."""
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
            another = close_in_children(socket.socket(fileno=descriptors[0]))
            self._selector.register(another, selectors.EVENT_READ)
        elif "fork" in message:
            self._fork(client, message["fork"], message["spec"])

    def _fork(self, client: socket.socket, role_name: str, spec: Message) -> None:
        ours, theirs = socket.socketpair()
        close_in_children(ours)
        role: object = self._roles.get(role_name)
        spawn_spec: Message | None = None
        if needs_spawn() and isinstance(role, Spawnable):
            spawn_spec = make_spawn_spec(role, spec, modules=self._modules)
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._run_child(parent, theirs, role_name, spec, spawned=spawn_spec is not None)
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        self._children[pid] = client
        self._running.add(pid)
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
            os.close(self._wake_read)
            os.close(self._wake_write)
            if spawned:
                exec_interpreter(channel)
            if role_name != _HORSE:
                close_what_horses_keep()
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
            self._running.discard(pid)
            discard_directory(pid)
            client = self._children.pop(pid, None)
            if client is not None:
                with contextlib.suppress(OSError):
                    send(client, {"exited": pid, "status": status})

    def end_children(self) -> None:
        """Kill and reap all children, so that none works with resources that are being cleaned up."""
        for client in set(self._children.values()):
            self._disconnect(client)
        # A process that a resource has started is none of them: the resource ends it.
        for pid in self._running:
            os.waitpid(pid, 0)

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
