from __future__ import annotations

import ast
from pathlib import Path

import emberq
from emberq.store import states
from emberq.store.states import ENDED_STATES, LIVE_STATES, TRANSITIONS, JobState


def test_no_statement_writes_a_state_but_those_built_from_a_transition() -> None:
    package = Path(emberq.__file__).parent
    writers = []
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name | ast.Attribute):
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            if name == "values" and any(keyword.arg == "state" for keyword in node.keywords):
                writers.append(path.name)
            if name == "update" and any(isinstance(arg, ast.Name) and arg.id == "Job" for arg in node.args):
                writers.append(path.name)
    # `move` writes the state and is the one place that updates jobs.
    assert writers == ["moves.py", "moves.py"]


def test_every_end_of_an_attempt_is_one_transition_and_no_combination_is_left_out() -> None:
    pairs = (
        (states.Guard.ASKED_TO_STOP, states.Guard.NOT_ASKED_TO_STOP),
        (states.Guard.RETRYABLE, states.Guard.NOT_RETRYABLE),
        (states.Guard.ATTEMPTS_LEFT, states.Guard.ATTEMPTS_USED_UP),
        (states.Guard.WORKER_LOST, states.Guard.WORKER_LIVES),
    )
    ends = set()
    for choice in range(16):
        facts = frozenset(pair[choice >> index & 1] for index, pair in enumerate(pairs))
        ends.add(states.end_of_attempt(facts).name)
    assert ends == {"back off", "fail", "give up", "quarantine", "stop"}


def test_every_state_is_entered_and_every_live_one_is_left() -> None:
    assert {transition.target for transition in TRANSITIONS} == {*JobState, None}
    left = {source for transition in TRANSITIONS for source in transition.sources}
    assert left == set(JobState) == {*LIVE_STATES, *ENDED_STATES}


def test_names_are_unique_and_every_effect_is_told() -> None:
    assert len({transition.name for transition in TRANSITIONS}) == len(TRANSITIONS)
    for transition in TRANSITIONS:
        assert transition.actors
        assert transition.effect.endswith(".")
