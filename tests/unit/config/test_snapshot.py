"""Snapshots have allowed values only, for every tenant; a change that would break this is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from emberq.config.runtime import ALL_TENANTS, RuntimeSettings
from emberq.config.snapshot import Snapshot, assemble, refuse_invalid
from emberq.errors import SettingInvalid

Values = dict[str, dict[str, Any]]

#: Values that are right, wrong alone, or wrong only together.
VALUES = {
    "rag_chunk_size": st.sampled_from([16, 40, 64, 200, "300", 3, "many", None]),
    "rag_chunk_overlap": st.sampled_from([0, 8, 20, 30, 100, -1]),
    "rag_embedding_engine": st.sampled_from(["local", "openai", "magic"]),
    "rag_embedding_api_base_url": st.sampled_from(["", "http://embed.example/v1", "ftp://x", "http://a\nb"]),
    "rag_hybrid": st.sampled_from([True, "false", "perhaps"]),
}
OWN = st.fixed_dictionaries({}, optional=VALUES)
STATES = st.dictionaries(st.sampled_from([ALL_TENANTS, "acme", "beta"]), OWN)


def check(before: Values, after: Values, *changed: tuple[str, str]) -> Snapshot:
    made = assemble(2, after)
    refuse_invalid(assemble(1, before), made, changed=changed)
    return made


@given(STATES)
def test_every_view_of_a_snapshot_is_allowed(values: Values) -> None:
    snapshot = assemble(1, values)
    for tenant in (ALL_TENANTS, "acme", "beta", "other"):
        view = snapshot.for_tenant(tenant)
        assert RuntimeSettings.model_validate(view.model_dump()) == view


@given(STATES)
def test_what_is_left_out_is_named_and_what_is_allowed_is_kept(values: Values) -> None:
    snapshot = assemble(1, values)
    named = {(one.tenant, one.key) for one in snapshot.unreadable}
    for tenant, own in values.items():
        if (tenant, "") in named:
            continue
        common = {} if tenant == ALL_TENANTS else snapshot.settings.model_dump(exclude_unset=True)
        for key in own:
            if (tenant, key) not in named:
                only = RuntimeSettings.model_construct(**{**common, **own})
                kept = getattr(snapshot.for_tenant(tenant), key)
                assert str(kept).lower() == str(getattr(only, key)).lower()


@given(STATES, STATES)
def test_a_change_is_refused_exactly_if_it_leaves_something_not_allowed_that_it_touches_or_caused(
    before: Values, after: Values
) -> None:
    places = {(tenant, key) for state in (before, after) for tenant, own in state.items() for key in own}
    changed = {
        (tenant, key)
        for tenant, key in places
        if before.get(tenant, {}).get(key, ...) != after.get(tenant, {}).get(key, ...)
    }
    was_clean = not assemble(1, before).unreadable
    is_clean = not assemble(2, after).unreadable
    try:
        check(before, after, *changed)
    except SettingInvalid:
        assert not is_clean
    else:
        assert is_clean or not was_clean


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("rag_chunk_size", 3, "rag_chunk_size: .*greater than or equal to 16"),
        ("rag_chunk_overlap", 150, "at most half"),
        ("rag_embedding_engine", "magic", "'local' or 'openai'"),
        ("rag_embedding_engine", "openai", "rag_embedding_api_base_url"),
        ("rag_embedding_api_base_url", "embed.example", "must begin with http"),
        ("rag_embedding_model", "a\x00b", "printable"),
        ("job_timeout", float("nan"), "finite|greater"),
        ("job_timeout", None, "valid number"),
    ],
)
def test_values_that_are_not_allowed_are_refused_with_the_reason(key: str, value: Any, reason: str) -> None:
    with pytest.raises(SettingInvalid, match=reason):
        check({}, {ALL_TENANTS: {key: value}}, (ALL_TENANTS, key))


def test_a_common_change_that_breaks_a_tenants_combination_is_refused_and_names_the_tenant() -> None:
    before: Values = {"acme": {"rag_chunk_overlap": 80}}
    with pytest.raises(SettingInvalid, match="For the tenant 'acme': rag_chunk_overlap must be at most half"):
        check(
            before,
            {**before, ALL_TENANTS: {"rag_chunk_size": 100}},
            (ALL_TENANTS, "rag_chunk_size"),
        )


def test_returning_to_a_default_that_breaks_a_combination_is_refused() -> None:
    before: Values = {ALL_TENANTS: {"rag_chunk_size": 60, "rag_chunk_overlap": 20}}
    with pytest.raises(SettingInvalid, match="at most half"):
        check(before, {ALL_TENANTS: {"rag_chunk_size": 50}}, (ALL_TENANTS, "rag_chunk_overlap"))


def test_what_was_wrong_before_does_not_stand_in_the_way_of_another_change() -> None:
    before: Values = {ALL_TENANTS: {"rag_chunk_size": 3}}
    after: Values = {ALL_TENANTS: {"rag_chunk_size": 3, "rag_top_k": 8}}
    assert check(before, after, (ALL_TENANTS, "rag_top_k")).settings.rag_top_k == 8
    with pytest.raises(SettingInvalid):
        check(before, {ALL_TENANTS: {"rag_chunk_size": 3}}, (ALL_TENANTS, "rag_chunk_size"))


def test_a_refusal_never_repeats_a_secret() -> None:
    with pytest.raises(SettingInvalid) as refusal:
        check(
            {},
            {ALL_TENANTS: {"rag_embedding_api_key": "sk-hid\nden"}},
            (ALL_TENANTS, "rag_embedding_api_key"),
        )
    assert "den" not in str(refusal.value)
    assert "sk-hid" not in repr(assemble(1, {ALL_TENANTS: {"rag_embedding_api_key": SecretStr("sk-hidden")}}))
