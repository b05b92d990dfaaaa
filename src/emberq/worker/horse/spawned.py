"""A spawned horse: a fresh interpreter, for resources that do not survive a fork.

The preloader forks it like any other child and replaces the program at once, so process group, death
with the parent, exit notice and channel stay the same. It reads its spawn spec from the channel, loads all
resources, says so, and then runs jobs as a forked horse does.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from emberq.errors import ResourceFailed
from emberq.system.memory import freeze_objects
from emberq.system.messages import Message, receive, send
from emberq.system.processes import die_with_parent, set_process_title
from emberq.telemetry import metrics
from emberq.telemetry.logs import ensure_logs, get_logger
from emberq.worker.job.tempdirs import use_root

log = get_logger(__name__)


def main(descriptor: int, parent: int) -> int:
    """Serve jobs from the channel with this descriptor, as a child of this parent; returns the exit code."""
    # Once more: an interpreter with capabilities of its own starts without the signal.
    die_with_parent(parent)
    channel = socket.socket(fileno=descriptor)
    channel.set_inheritable(False)
    spec, _ = receive(channel)
    if spec is None:
        return 0
    ensure_logs()
    metrics.enable_from_environment()
    set_process_title("horse")
    try:
        serve = _prepare(spec)
    except Exception as exc:
        log.exception("spawned_horse_failed", error=type(exc).__name__)
        send(channel, {"failed": str(exc)})
        return 1
    send(channel, {"loaded": os.getpid()})
    serve(channel)
    return 0


def _prepare(spec: Message) -> Callable[[socket.socket], None]:
    """Load everything and return what serves the channel.

    Raises:
        Exception: If the worker cannot be made again, or a resource cannot be loaded.
    """
    if "failed" in spec:
        raise ResourceFailed(spec["failed"])
    sys.path[:] = spec["sys_path"]
    # Imported only now: the search path has come with the spec.
    from emberq.worker.horse.process import run_horse
    from emberq.worker.horse.role import SpawnSetup, deserialize_worker
    from emberq.worker.resources.resources import preload

    root = spec["temporary_root"]
    use_root(Path(root) if root else None)
    if "setup" in spec:
        SpawnSetup(**spec["setup"]).run()
    preload(spec["modules"])
    gc.collect()
    freeze_objects()
    return partial(run_horse, deserialize_worker(spec["worker"]))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
