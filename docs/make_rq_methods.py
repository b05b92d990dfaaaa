"""Write docs/reference/rq-methods.md from the code: `python docs/make_rq_methods.py`."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from emberq.worker import warm_worker
from emberq.worker.warm_worker import WarmWorker

__all__ = ["PAGE", "render", "table"]

PAGE = Path(__file__).parent / "reference" / "rq-methods.md"

#: A line of the table in the module's docstring; one without a name goes on with the line above.
_ROW = re.compile(r"^(?:`(?P<method>\w+)` +(?P<owner>\w+)|) +(?P<why>\S.*)$", re.MULTILINE)

_HEAD = """\
# RQ's methods that emberq overrides

Written by `python docs/make_rq_methods.py` from `worker/warm_worker.py`; a test keeps it up to date.

`emberq.WarmWorker` is RQ's `Worker` with these methods overridden; all others are RQ's. Each method is
overridden in one class, so the order of the classes does not matter. A method that several parts need is in
`WarmWorker`, which calls them one after the other.

| Part | Concern |
|---|---|
"""

_TABLE = """
The methods, in the order in which RQ calls them:

| Method | Overridden by | Why |
|---|---|---|
"""

_DETAILS = """
## What happens when the worker is idle

Each round of RQ's loop begins with `check_for_suspension` and then calls `dequeue_job_and_maintain_ttl`. That
first takes a job without blocking. If there is none, it calls `WarmWorker.idle`, which writes the state
`idle`, notes that a signal now has to end a blocking command, and has a horse ready for the next job. Then
RQ's own method blocks in Redis, for ten seconds at most, and calls `heartbeat` before it blocks again.

## What each of them does

"""


def table() -> list[tuple[str, str, str]]:
    """Return method, overriding class and reason, as the module's docstring has them."""
    rows: list[tuple[str, str, str]] = []
    body = (warm_worker.__doc__ or "").split("==\n")[2]
    for row in _ROW.finditer(body):
        if row["method"]:
            rows.append((row["method"], row["owner"], row["why"]))
        else:
            method, owner, why = rows.pop()
            rows.append((method, owner, f"{why} {row['why']}"))
    return rows


def render() -> str:
    """Return the page."""
    parts = [_HEAD]
    for part in (WarmWorker, *WarmWorker.__bases__):
        place = part.__module__.removeprefix("emberq.").replace(".", "/")
        parts.append(f"| `{place}.py:{part.__name__}` | {_first_line(part)} |\n")
    parts.append(_TABLE)
    parts += [f"| `{method}` | `{owner}` | {why} |\n" for method, owner, why in table()]
    parts.append(_DETAILS)
    parts += [f"- `{method}`: {_first_line(getattr(WarmWorker, method))}\n" for method, _, _ in table()]
    return "".join(parts)


def _first_line(documented: object) -> str:
    return (inspect.getdoc(documented) or "").partition("\n")[0]


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
