"""Fault points: count the calls to Redis, SQL, disk and model, and break the nth one, before or after it.

Use it as in docs/how-to/test-your-jobs.md: count the operations of a job, then break each one in turn and
check that the job still has one result. SQLite tests itself in this way.

The fault points are in the libraries (redis-py's connections, psycopg's cursors, the file system, ONNX
Runtime's sessions), so all code above them is the code that runs in production.
"""

from __future__ import annotations

import importlib.util

from emberq.testing import boundaries
from emberq.testing.counters import Counters, Crossing, Fault, Operation, Variant

__all__ = ["Crossing", "Fault", "FaultPoints", "Operation", "Variant"]


class FaultPoints(Counters):
    """The fault points of all libraries, and their counters.

    Example:
        >>> points = FaultPoints(["horse"])
        >>> points.install()
        >>> points.arm(Fault("horse", 3, Variant.EXIT_AFTER))
        >>> points.become("horse")  # in the forked process

    Install the points before processes are forked. A process counts its operations after its call of
    `become`, without those of the ignored threads.

    Invariant: a fault happens at most once after it was armed, also if the broken work runs again.
    """

    def install(self) -> None:
        """Patch the installed libraries, in this process and in those that it forks."""
        boundaries.watch_redis(self)
        if self._directory is not None:
            boundaries.watch_disk(self, self._directory)
        if importlib.util.find_spec("psycopg"):
            boundaries.watch_sql(self)
        if importlib.util.find_spec("onnxruntime"):
            boundaries.watch_model(self)
