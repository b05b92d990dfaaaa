"""Jobs of a worker with an allow-list, and what such a list must keep from running."""

from __future__ import annotations

import os
from pathlib import Path
from subprocess import run
from typing import Any

from emberq import WarmWorker
from emberq.worker.rq.allow_list import AllowList

#: Imported, so that RQ would find it here.
__all__ = ["TicketWorker", "answer", "mark", "run"]

_MODULE = "tests.jobs.allowed"


def answer(*_arguments: Any, **_named: Any) -> str:
    """Return a word."""
    return "done"


def mark(*_anything: Any) -> None:
    """Leave a file; what is not on the list must not come so far."""
    Path(os.environ["ALLOWED_MARK"]).touch()


class TicketWorker(WarmWorker):
    """A worker whose jobs are tickets, as those of documents."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["allow"] = AllowList.of([f"{_MODULE}.answer"], tickets=[f"{_MODULE}.answer"])
        super().__init__(*args, **kwargs)
        self.commands = frozenset({"stop-job"})
