"""Every interleaving of one file's life: the rules of the store hold, and each flawed rule is found out."""

from __future__ import annotations

import sys

import pytest

from emberq.store.schema.job_states import DELETE, PROGRESS, TRANSITIONS
from tests.chaos.model.model import FlawedRule, Model
from tests.chaos.model.search import Explored, search, stuck_states
from tests.chaos.model.world import INITIAL, State, broken_invariant, is_good

#: What each flawed rule must be caught breaking.
CAUGHT = {
    FlawedRule.NO_FENCING: "only its newest holder, or the reaper, ends an attempt",
    FlawedRule.REAP_WITHOUT_COUNTING: "no job takes more than max_attempts attempts",
    FlawedRule.DELETE_WITHOUT_TOMBSTONE: "deleted stays deleted",
    FlawedRule.ACKNOWLEDGE_BEFORE_COMMIT: "what is acknowledged is there",
    FlawedRule.CANCEL_IN_TWO_STATEMENTS: "what was cancelled is not committed later",
    FlawedRule.END_BY_TICKET_ALONE: "only its newest holder, or the reaper, ends an attempt",
    FlawedRule.COMMIT_IN_ANY_ORDER: "an older version never follows a newer one",
    FlawedRule.COMPLETE_BEFORE_STORING: "no job is completed without its chunks",
}
#: Flawed rules that break nothing, but leave a job stuck for ever.
STUCK = {
    FlawedRule.NO_SWEEP: "redis forgets everything",
    FlawedRule.NO_REAPER: "host of the working worker of v1 dies",
}


@pytest.fixture(scope="module")
def explored() -> Explored[State]:
    return search(INITIAL, Model().steps, broken_invariant)


@pytest.mark.slow
def test_no_interleaving_breaks_an_invariant(explored: Explored[State]) -> None:
    assert explored.violation is None, explored.violation
    sys.stdout.write(
        f"{explored.states} states, {explored.steps} steps: every invariant holds in all of them\n"
    )
    # Two versions, two workers and every mishap: far fewer would mean that something was left out.
    assert explored.states > 40_000


@pytest.mark.slow
def test_from_every_state_the_system_by_itself_reaches_a_good_end(explored: Explored[State]) -> None:
    stuck = next(stuck_states(explored, is_good), None)
    assert stuck is None, explored.trace_to(stuck)


@pytest.mark.slow
def test_every_transition_happens_somewhere(explored: Explored[State]) -> None:
    names = {transition.name for transition in TRANSITIONS} - {DELETE.name, PROGRESS.name}
    happened = {name for what in explored.happened for name in names if f" {name} v" in what}
    assert happened == names


@pytest.mark.parametrize("flaw", CAUGHT, ids=lambda flaw: flaw.name.lower())
def test_a_flawed_rule_is_found_out(flaw: FlawedRule) -> None:
    explored = search(INITIAL, Model(flaw).steps, broken_invariant)
    assert explored.violation is not None
    sys.stdout.write(f"If {flaw}:\n{explored.violation}\n")
    assert explored.violation.invariant == CAUGHT[flaw]


@pytest.mark.parametrize("flaw", STUCK, ids=lambda flaw: flaw.name.lower())
def test_a_missing_duty_leaves_a_job_stuck(flaw: FlawedRule) -> None:
    explored = search(INITIAL, Model(flaw, versions=1).steps, broken_invariant)
    assert explored.violation is None
    stuck = next(stuck_states(explored, is_good))
    trace = explored.trace_to(stuck)
    steps = "".join(f"{number:3}. {what}\n" for number, (what, _) in enumerate(trace))
    sys.stdout.write(f"If {flaw}:\n{steps}")
    assert trace[-1][0] == STUCK[flaw]


def test_the_same_world_with_both_duties_leaves_none_stuck() -> None:
    explored = search(INITIAL, Model(versions=1).steps, broken_invariant)
    assert explored.violation is None
    assert next(stuck_states(explored, is_good), None) is None


def test_every_flawed_rule_is_tried() -> None:
    assert {*CAUGHT, *STUCK} == set(FlawedRule)
