"""Long lives of many files, made up by Hypothesis, on the real store and in a dictionary beside it.

What must hold, after every step:

- A job is in the state the dictionary says, and its counted attempts are those that were made.
- Readers see one version of a file, whole: the newest that was committed, or nothing.
- A stale holder can neither report, commit nor fail.
- Deleted stays deleted: no chunk and no text of a deleted file is left.
- What was cancelled is never completed.
- The counters equal the rows.
- A waiting job says why it waits, and no other job does.
- A tenant sees only its own jobs and files.

And at the end, once the system was left alone for a while: every acknowledged upload is searchable, or
over with a reason that has a name.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from emberq.store.services import Services
from tests.integration.store.machine.lives import Lives

#: What may happen, the usual things more often.
THINGS = (
    *["upload"] * 4, *["take"] * 6, *["commit"] * 4, *["cancel", "retry", "bad moment"] * 2,
    *["take late", "ticket twice"] * 3, "progress", "bad file", "bug", "horse dies", "delete", "replace",
    *["zombie"] * 2, "host dies", "ticket lost", "all tickets lost", "sweep", "look",
)  # fmt: skip
#: Without these a run has shown nothing.
WORTH_SEEING = (
    "a holder told to stop",
    "a job at work asked to stop",
    "a job reaped",
    "a job retried",
    "a job retried by an upload",
    "a lost ticket found",
    "a stale holder refused",
    "a ticket that opened nothing",
    "a version replaced while it was processed",
    "a visible file deleted",
    "a visible version replaced",
    "attempts used up",
)


#: A round that misses something rare is no failure; several in a row are.
MOST_ROUNDS = 4
SETTINGS = settings(
    # In CI Hypothesis would repeat the very same examples in each round.
    derandomize=False,
    max_examples=12,
    stateful_step_count=80,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


class StoreMachine(RuleBasedStateMachine):
    """One rule, so that every thing stays as likely as it is meant to be."""

    services: ClassVar[Services]
    seen: ClassVar[Counter[str]]

    def __init__(self) -> None:
        """Begin with an empty store."""
        super().__init__()
        self.lives = Lives(self.services, self.seen)
        self.is_broken = False

    @rule(what=st.sampled_from(THINGS), number=st.integers(0, 1000))
    def happens(self, what: str, number: int) -> None:
        self.is_broken = True
        self.lives.go_on(what, number)
        self.is_broken = False

    @invariant()
    def all_is_as_it_should_be(self) -> None:
        was_broken, self.is_broken = self.is_broken, True
        self.lives.check()
        self.is_broken = was_broken

    def teardown(self) -> None:
        # What is broken already would only break again, and hide how.
        if not self.is_broken:
            self.lives.settle()


def test_the_store_does_what_a_dictionary_would(services: Services) -> None:
    StoreMachine.services = services
    StoreMachine.seen = Counter()
    for _ in range(MOST_ROUNDS):
        run_state_machine_as_test(StoreMachine, settings=SETTINGS)
        missed = [what for what in WORTH_SEEING if not StoreMachine.seen[what]]
        if not missed:
            break
    sys.stdout.write(f"{dict(StoreMachine.seen)}\n")
    assert missed == []
