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

A job takes one version of a file through the pipeline. `store/schema/job_states.py` defines its states and
every permitted transition. The UPDATE statements, the model checker's steps and this page are built from
it; a test compares the trigger that refuses every other change in PostgreSQL with it.

```mermaid
stateDiagram-v2
"""

_TABLE = """```

`progress`, `enqueue again` and `request cancel` change the job, but not its state.

## The transitions

| Transition | From | To | Actor | Condition | Effect |
|---|---|---|---|---|---|
"""

_PROOFS = """
To move a job that is being processed, an actor also shows a proof:

| Actor | Proof |
|---|---|
"""

_ACTORS = """
| Actor | Meaning |
|---|---|
"""

_MODEL = """
## How it is checked

**The database refuses every other change.** A trigger compares each change of a state with the permitted
ones (`test_the_database_refuses_exactly_the_changes_that_no_transition_makes` tries all of them).

**Every interleaving is searched.** `tests/chaos/model` takes its transitions from the same table and searches
the life of one file: two versions, two workers, a reaper, two attempts, cancel, delete, retry, pause, purge,
tickets that are lost or delivered twice, and the death of a horse, a slot or a host between any two steps. In
none of its more than 43,000 states is one of these invariants broken: an acknowledged file exists; readers
see one version, complete; an older version never follows a newer one; a deleted file stays deleted; a
cancelled job is not committed later; no job is completed without its chunks; no job takes more than
`max_attempts` attempts; only the newest claim's holder, or the reaper, ends an attempt. From each state the
system reaches a good end by itself.

**The search itself is tested.** Ten flawed rules are put in, one at a time, such as no fencing, attempts
counted only when they fail politely, a deletion without a tombstone, an acknowledgement before the commit, a
cancellation in two statements. The search must find each of them;
`python -m pytest -s tests/chaos/model` prints the shortest way to the mistake.

**The real store is compared with a dictionary.** Hypothesis generates long lives of many files
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
