from __future__ import annotations

import ast
import re
from pathlib import Path

import emberq
from emberq.store.jobs.admission import ADMIT_STATEMENT
from emberq.store.schema import job_states
from emberq.store.schema.job_states import ADMIT, ENDED_STATES, LIVE_STATES, TRANSITIONS, JobState


def test_no_statement_writes_a_state_but_those_built_from_a_transition() -> None:
    writers = set()
    for path in Path(emberq.__file__).parent.rglob("*.py"):
        if path.parent.name == "versions":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                sets_state = any(keyword.arg == "state" for keyword in node.keywords)
                if node.func.attr == "values" and sets_state:
                    writers.add(path.name)
            if isinstance(node, ast.Constant) and re.search(r"SET\s+state\s*=", str(node.value)):
                writers.add(path.name)
    # Admission is one statement in SQL; the next test holds it to its transition.
    assert writers == {"transitions.py", "admission.py"}


def test_admission_in_sql_makes_its_transition() -> None:
    assert f"SET state = '{ADMIT.target}'" in ADMIT_STATEMENT.text
    (source,) = ADMIT.sources
    assert f"WHERE id IN (SELECT id FROM chosen) AND state = '{source}'" in ADMIT_STATEMENT.text


def test_every_end_of_an_attempt_is_one_transition_and_no_combination_is_left_out() -> None:
    pairs = (
        (job_states.Guard.CANCEL_REQUESTED, job_states.Guard.CANCEL_NOT_REQUESTED),
        (job_states.Guard.OUTAGE, job_states.Guard.NO_OUTAGE),
        (job_states.Guard.RETRYABLE, job_states.Guard.NOT_RETRYABLE),
        (job_states.Guard.ATTEMPTS_LEFT, job_states.Guard.ATTEMPTS_EXHAUSTED),
        (job_states.Guard.WORKER_LOST, job_states.Guard.WORKER_ALIVE),
    )
    ends = set()
    for choice in range(2 ** len(pairs)):
        facts = frozenset(pair[choice >> index & 1] for index, pair in enumerate(pairs))
        ends.add(job_states.end_of_attempt(facts).name)
    assert ends == {"back off", "snooze", "fail", "exhaust", "quarantine", "stop"}


def test_every_state_is_entered_and_every_live_one_is_left() -> None:
    assert {transition.target for transition in TRANSITIONS} == {*JobState, None}
    left = {source for transition in TRANSITIONS for source in transition.sources}
    assert left == set(JobState) == {*LIVE_STATES, *ENDED_STATES}


def test_names_are_unique_and_every_effect_is_told() -> None:
    assert len({transition.name for transition in TRANSITIONS}) == len(TRANSITIONS)
    for transition in TRANSITIONS:
        assert transition.actors
        assert transition.effect.endswith(".")
