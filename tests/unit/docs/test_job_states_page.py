from __future__ import annotations

from emberq.store.schema.job_states import ACTORS, Actor


def test_every_actor_is_described() -> None:
    assert set(ACTORS) == set(Actor)
