"""The order of turns, computed without a database."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from emberq.store.jobs.fair_share import Share, jobs_ahead, place_in_tenant

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def share(tenant: str = "a", **values: object) -> Share:
    defaults: dict[str, object] = {"begins": 0.0, "weight": 1.0, "taken": 0, "interactive": 0, "bulk": 0}
    return Share(tenant=tenant, priority=100, created_at=NOON, **{**defaults, **values})  # type: ignore[arg-type]


@given(taken=st.integers(0, 1000), interactive=st.integers(0, 60), bulk=st.integers(0, 60))
def test_every_job_has_a_place_of_its_own_and_bulk_waits_for_four_at_most(
    taken: int, interactive: int, bulk: int
) -> None:
    own = share(taken=taken, interactive=interactive, bulk=bulk)
    places = {place_in_tenant(own, n + 1, is_bulk=False): "i" for n in range(interactive)}
    places |= {place_in_tenant(own, n + 1, is_bulk=True): "b" for n in range(bulk)}
    assert sorted(places) == list(range(1, interactive + bulk + 1))
    order = "".join(places[place] for place in sorted(places))
    contested = order[: min(order.rfind("i"), order.rfind("b")) + 1]
    assert "iiiii" not in contested
    assert "bb" not in contested


def test_a_tenant_with_twice_the_weight_has_twice_as_many_jobs_ahead() -> None:
    own, heavy = share(interactive=10), share("heavy", weight=2.0, interactive=99)
    assert jobs_ahead(own, 6, (100, NOON), [own, heavy]) == 5 + 10


def test_a_tenant_further_on_in_the_round_is_not_ahead() -> None:
    own, later = share(interactive=10), share("later", begins=7.0, interactive=99)
    assert jobs_ahead(own, 1, (100, NOON), [own, later]) == 0
    assert jobs_ahead(own, 9, (100, NOON), [own, later]) == 8 + 1


def test_a_tie_goes_to_the_lower_priority_number() -> None:
    own, equal = share(interactive=1), share("equal", interactive=1)
    assert jobs_ahead(own, 1, (99, NOON), [own, equal]) == 0
    assert jobs_ahead(own, 1, (200, NOON), [own, equal]) == 1
