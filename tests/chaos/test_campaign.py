"""The kill campaign in short: a few kills of everything that can die, and nothing is lost."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.chaos.campaign.campaign import run_campaign
from tests.chaos.campaign.plan import FAULTS, QUICK_FAULTS, VICTIMS, make_plan
from tests.chaos.campaign.report import as_markdown, last_line

SEED = "short"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_short_campaign_loses_nothing(tmp_path: Path) -> None:
    plan = make_plan(SEED, kills=15, hosts=2, faults=QUICK_FAULTS, every=5)
    result = run_campaign(tmp_path, seed=SEED, plan=plan, hosts=2, phase_seconds=1.0, tell=print_line)
    page = as_markdown(result, command="pytest", broken=[])
    assert result.verdict.findings == [], page
    assert result.is_quiet, page
    assert [outcome for outcome in result.outcomes if outcome.recovery_seconds is None] == [], page
    assert re.fullmatch(
        r"kills=15 lost=0 duplicated=0 stuck=0 mixed=0 slowest_recovery=\d+\.\ds failed_starts=0 orphans=0",
        last_line(result),
    )
    assert result.operations["upload"][1] > 20


def print_line(line: str) -> None:
    sys.stdout.write(line + "\n")


def test_a_seed_makes_the_same_plan_again_and_another_one_does_not() -> None:
    plan = make_plan("a", kills=300, hosts=2)
    assert plan == make_plan("a", kills=300, hosts=2)
    assert plan != make_plan("b", kills=300, hosts=2)


def test_a_full_plan_has_every_victim_and_every_fault() -> None:
    plan = make_plan("a", kills=1000, hosts=2)
    assert sum(action.is_kill for action in plan) == 1000
    assert {action.what for action in plan if action.is_kill} == set(VICTIMS)
    assert {action.what for action in plan if not action.is_kill} == set(FAULTS)
