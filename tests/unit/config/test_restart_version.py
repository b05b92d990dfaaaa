"""The restart version changes exactly when workers must be replaced."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from emberq.config.restart_version import AppliedVersions, restart_version
from emberq.config.runtime import ALL_TENANTS, Applies, RuntimeSettings, is_host_wide, settings_that_apply
from emberq.config.snapshot import Snapshot, Unreadable, assemble

MODEL = "rag_embedding_model"
OWN = st.fixed_dictionaries(
    {},
    optional={
        MODEL: st.sampled_from(["all-MiniLM-L6-v2", "other"]),
        "rag_reranking_model": st.sampled_from(["", "cross"]),
        "horse_max_jobs": st.sampled_from([1000, 5]),
        "rag_top_k": st.integers(1, 3),
        "rag_chunk_size": st.integers(100, 102),
        "rag_embedding_api_key": st.sampled_from(["", "sk-1"]),
    },
)
STATES = st.dictionaries(st.sampled_from([ALL_TENANTS, "acme"]), OWN)


def snapshot(version: int = 1, *, own: dict[str, Any] | None = None, **common: Any) -> Snapshot:
    return assemble(version, {ALL_TENANTS: common, "acme": own or {}})


def in_force(made: Snapshot) -> list[Any]:
    """The model: the values that workers read at their start, as each tenant has them."""
    keys = settings_that_apply(Applies.NEW_GENERATION)
    common = [getattr(made.settings, key) for key in keys]
    acme = [getattr(made.for_tenant("acme"), key) for key in keys if not is_host_wide(key)]
    return [common, acme]


@given(STATES, STATES)
def test_it_changes_exactly_with_the_values_that_workers_read_at_their_start(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    first, second = assemble(1, one), assemble(2, other)
    assert (restart_version(first) == restart_version(second)) == (in_force(first) == in_force(second))


def test_models_and_what_slots_read_at_their_start_need_a_new_generation() -> None:
    keys = settings_that_apply(Applies.NEW_GENERATION)
    assert {MODEL, "rag_reranking_model", "rag_embedding_engine", "horse_max_jobs"} <= set(keys)
    for key in keys:
        changed: Any = {"rag_embedding_engine": "openai"}.get(key)
        value = changed or (
            f"{key}-2" if isinstance(RuntimeSettings.model_fields[key].default, str) else 7 << 20
        )
        made = RuntimeSettings.model_construct(**{**RuntimeSettings().model_dump(), key: value})
        assert restart_version(Snapshot(1, made)) != restart_version(Snapshot(1)), key


def test_workers_follow_every_version_that_needs_no_new_generation() -> None:
    made = AppliedVersions(snapshot(3))
    assert not made.advance(snapshot(4, rag_chunk_size=300))
    assert made.of_workers([restart_version(snapshot(3))] * 2) == [4, 4]


def test_workers_stay_behind_until_they_are_of_the_new_generation() -> None:
    old, new = restart_version(snapshot()), restart_version(snapshot(horse_max_jobs=5))
    made = AppliedVersions(snapshot(3))
    assert not made.advance(snapshot(4, rag_top_k=9))
    assert made.advance(snapshot(5, horse_max_jobs=5))
    assert not made.advance(snapshot(6, horse_max_jobs=5, rag_top_k=8))
    assert made.of_workers([old, old, old]) == [4, 4, 4]
    assert made.of_workers([new, old, new]) == [6, 4, 6]
    assert made.of_workers(["", "never made"]) == [0, 0]


def test_a_rollback_makes_workers_of_the_old_generation_apply_the_newest_version() -> None:
    made = AppliedVersions(snapshot(1))
    assert made.advance(snapshot(2, own={MODEL: "other"}))
    assert made.of_workers([restart_version(snapshot())]) == [1]
    assert made.advance(snapshot(3))
    assert made.of_workers([restart_version(snapshot())]) == [3]


def test_with_a_value_that_cannot_be_read_no_version_is_applied() -> None:
    broken = Snapshot(4, unreadable=(Unreadable("rag_embedding_api_key", "", "sealed"),))
    made = AppliedVersions(broken)
    assert made.of_workers([restart_version(broken)]) == [0]
    made.advance(snapshot(5))
    assert made.of_workers([restart_version(broken)]) == [5]
