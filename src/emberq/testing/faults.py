"""Fault points: count every call to Redis, SQL, disk and model, and break the nth one, before or after it.

The points lie at the boundary of the libraries (redis-py's connections, psycopg's cursors, the file system,
ONNX Runtime's sessions), so that everything above them is what runs in production. Nothing here costs
anything in a process that does not import this module and call `FaultPoints.install`.

SQLite tests itself so: fail the first, the second, … operation, until one run is free of faults.
"""

from __future__ import annotations

import importlib.util

from emberq.testing import boundaries
from emberq.testing.board import Board, Crossing, Fault, Operation, Variant

__all__ = ["Crossing", "Fault", "FaultPoints", "Operation", "Variant"]


class FaultPoints(Board):
    """The points in all libraries, and the board they count on.

    Install it before the processes are forked. Each then says what it is (`become`); what it does before
    that is not counted, and neither is what its ignored threads do.

    Invariant: a fault happens at most once after it was armed, whatever runs again because of it.

    Example:
        >>> points = FaultPoints(["horse"])
        >>> points.install()
        >>> points.arm(Fault("horse", 3, Variant.EXIT_AFTER))
        >>> points.become("horse")  # in the forked process
    """

    def install(self) -> None:
        """Put the points into every library that is there, in this process and those it forks."""
        boundaries.watch_redis(self)
        if self._directory is not None:
            boundaries.watch_disk(self, self._directory)
        if importlib.util.find_spec("psycopg"):
            boundaries.watch_sql(self)
        if importlib.util.find_spec("onnxruntime"):
            boundaries.watch_model(self)
