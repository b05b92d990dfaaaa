"""Write docs/explanation/job-states.md from the code: `python docs/make_job_states.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from emberq.store.schema.job_states import ACTORS, PROOFS, TRANSITIONS, JobState, Transition

__all__ = ["PAGE", "render"]

PAGE = Path(__file__).parent / "explanation" / "job-states.md"

_HEAD = """\
# The states of a job

Written by `python docs/make_job_states.py` from `store/schema/job_states.py`; a test keeps it up to date.

A job takes one version of a file through the pipeline. Its states, and every change that is permitted
between them, are written down in one place. The statements that move jobs are built from it, the trigger
with which PostgreSQL refuses any other change is held to it by a test, the model that is searched for
mistakes takes its steps from it, and so does this page.

```mermaid
stateDiagram-v2
"""

_TABLE = """```

Progress, a second ring for a lost ticket and a request to stop change the job, but not its state.

## Who may do what

| Transition | From | To | Who | If | Then |
|---|---|---|---|---|---|
"""

_PROOFS = """
Whoever moves a job that is being processed shows, besides:

| Who | Shows that |
|---|---|
"""

_ACTORS = """
| Who | Is |
|---|---|
"""

_MODEL = """
## How it is checked

**The database refuses the rest.** A trigger compares each change of a state with the permitted ones
(`test_the_database_refuses_exactly_the_changes_that_no_transition_makes` tries all of them).

**Every interleaving is searched.** `tests/chaos/model` lets one file live through everything at once: two
versions, two workers, a reaper, two attempts, cancel, delete, retry, pause, purge, tickets that are lost or
delivered twice, and the death of a horse, a slot or a host between any two steps. It takes its transitions
from the same table. In none of its more than 43,000 states is one of these broken: what is acknowledged is
there; readers see one version, whole; an older version never follows a newer one; deleted stays deleted;
what was cancelled is not committed later; no job is completed without its chunks; no job takes more than
`max_attempts` attempts; only its newest holder, or the reaper, ends an attempt. And from each of them the
system reaches a good end by itself.

**The search is checked, too.** Ten rules that look right and are not are put in, one at a time, such as no
fencing, attempts counted only when they fail politely, a deletion without a tombstone, an acknowledgement
before the commit, a cancellation in two statements. Each must be found out;
`python -m pytest -s tests/chaos/model` prints the shortest way to the mistake.

**The real store is played against a dictionary.** Hypothesis makes up long lives of many files
(`tests/integration/store/machine/test_machine.py`), and real threads run each race in both orders
(`tests/integration/store/test_races.py`).
"""


def render() -> str:
    """Return the page."""
    parts = [_HEAD, *_arrows(), _TABLE, *(_row(transition) for transition in TRANSITIONS), _PROOFS]
    parts += [
        f"| {actor} | {' and '.join(guard.value for guard in guards)} |\n" for actor, guards in PROOFS.items()
    ]
    parts += [_ACTORS, *(f"| {actor} | {words} |\n" for actor, words in ACTORS.items()), _MODEL]
    return "".join(parts)


def _arrows() -> Iterator[str]:
    """Draw each change of state once, with all its verbs; jobs that are gone are not in the picture."""
    verbs: dict[tuple[str, str], list[str]] = {}
    for transition in TRANSITIONS:
        for source in transition.sources or ("[*]",):
            if transition.target is not None and source != transition.target:
                verbs.setdefault((str(source), str(transition.target)), []).append(transition.name)
    for (source, target), names in verbs.items():
        yield f"    {source} --> {target}: {', '.join(names)}\n"


def _row(transition: Transition) -> str:
    sources = ", ".join(transition.sources) or "-"
    if set(transition.sources) == set(JobState):
        sources = "any"
    guards = "; ".join(guard.value for guard in transition.guards) or "-"
    actors = ", ".join(transition.actors)
    target = transition.target or "gone"
    return f"| {transition.name} | {sources} | {target} | {actors} | {guards} | {transition.effect} |\n"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
