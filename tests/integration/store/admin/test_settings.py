"""Run-time settings in PostgreSQL: checked, versioned, in order, with history and rollback."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from cryptography.fernet import Fernet
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import select, text, update

from emberq.config.runtime import ALL_TENANTS, RuntimeSettings
from emberq.config.snapshot import assemble, refuse_invalid
from emberq.errors import SettingInvalid
from emberq.store.admin.changes import change_settings, roll_back
from emberq.store.admin.secrets import Sealer
from emberq.store.admin.settings import list_changes, load_snapshot, settings_version
from emberq.store.schema.admin_tables import Setting, SettingChange
from emberq.store.services import Services
from tests.harness.eventually import LIMIT_SECONDS, eventually
from tests.integration.store.overlap import waits_for_lock


def put(services: Services, key: str, value: Any, *, tenant: str = ALL_TENANTS) -> int:
    with services.database.system_transaction() as connection:
        return change_settings(connection, services.sealer, {key: value}, tenant=tenant, changed_by="test")


def remove(services: Services, key: str, *, tenant: str = ALL_TENANTS) -> int:
    with services.database.system_transaction() as connection:
        return change_settings(connection, services.sealer, {}, unset=[key], tenant=tenant, changed_by="test")


def back_to(services: Services, version: int) -> int:
    with services.database.system_transaction() as connection:
        return roll_back(connection, services.sealer, version, changed_by="test")


KEYS = {
    "rag_chunk_size": st.sampled_from([16, 40, 100, "200"]),
    "rag_chunk_overlap": st.sampled_from([0, 8, 20, 50]),
    "rag_embedding_api_key": st.sampled_from(["sk-1", "sk-2"]),
    "rag_top_k": st.integers(0, 3),
}
TENANTS = st.sampled_from([ALL_TENANTS, "acme", "beta"])
Model = dict[str, dict[str, Any]]


class Settings(RuleBasedStateMachine):
    """Any sequence of set, unset and rollback, against a dict.

    In words: what a version holds never changes afterwards; each change that was made is one version
    more; each change that was refused is none; the table of settings holds the newest version; and
    everybody's and every tenant's settings are allowed together at every version.
    """

    services: Services

    def __init__(self) -> None:
        super().__init__()
        with self.services.database.system_transaction() as connection:
            connection.execute(text("TRUNCATE settings, settings_history"))
        self.history: list[Model] = [{}]

    @rule(tenant=TENANTS, data=st.data(), keys=st.sets(st.sampled_from(sorted(KEYS)), min_size=1, max_size=2))
    def change(self, tenant: str, data: st.DataObject, keys: set[str]) -> None:
        values = {key: data.draw(KEYS[key]) for key in sorted(keys)}
        self._expect(tenant, values, set())

    @rule(tenant=TENANTS, key=st.sampled_from(sorted(KEYS)))
    def unset(self, tenant: str, key: str) -> None:
        self._expect(tenant, {}, {key})

    @rule(data=st.data())
    def roll_back(self, data: st.DataObject) -> None:
        version = data.draw(st.integers(0, len(self.history) - 1))
        made = back_to(self.services, version)
        if self.history[version] != self.history[-1]:
            self.history.append(self.history[version])
        assert made == len(self.history) - 1

    def _expect(self, tenant: str, values: dict[str, Any], unset: set[str]) -> None:
        before = self.history[-1]
        own = {key: value for key, value in before.get(tenant, {}).items() if key not in unset} | values
        wanted = {owner: dict(kept) for owner, kept in before.items() if owner != tenant}
        if own:
            wanted[tenant] = own
        changed = [(tenant, key) for key in (*values, *unset)]
        after = assemble(len(self.history), wanted)
        try:
            refuse_invalid(assemble(len(self.history) - 1, before), after, changed=changed)
        except SettingInvalid:
            with pytest.raises(SettingInvalid):
                self._make(tenant, values, unset)
            return
        for key in values:
            wanted[tenant][key] = getattr(after.for_tenant(tenant), key)
        if wanted != before:
            self.history.append(wanted)
        assert self._make(tenant, values, unset) == len(self.history) - 1

    def _make(self, tenant: str, values: dict[str, Any], unset: set[str]) -> int:
        with self.services.database.system_transaction() as connection:
            return change_settings(
                connection, self.services.sealer, values, unset=unset, tenant=tenant, changed_by="test"
            )

    @invariant()
    def every_version_holds_what_it_held(self) -> None:
        with self.services.database.system_transaction() as connection:
            newest = load_snapshot(connection, self.services.sealer)
            assert newest.version == len(self.history) - 1
            assert newest == load_snapshot(connection, self.services.sealer, newest.version)
            for version, model in enumerate(self.history[-3:], start=max(0, len(self.history) - 3)):
                found = load_snapshot(connection, self.services.sealer, version)
                assert found == assemble(version, model)
                assert not found.unreadable


def test_any_sequence_of_changes_and_rollbacks_agrees_with_a_dict(services: Services) -> None:
    machine = type("Bound", (Settings,), {"services": services})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=25, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def test_two_changes_that_do_not_fit_together_cannot_both_be_made_at_once(services: Services) -> None:
    for _ in range(10):
        with services.database.system_transaction() as connection:
            connection.execute(text("TRUNCATE settings, settings_history"))
        outcomes: list[str] = []
        start = threading.Barrier(2)

        def change(key: str, value: int, start: threading.Barrier = start, done: Any = outcomes) -> None:
            start.wait()
            try:
                put(services, key, value)
                done.append("made")
            except SettingInvalid:
                done.append("refused")

        threads = [
            threading.Thread(target=change, args=("rag_chunk_size", 60)),
            threading.Thread(target=change, args=("rag_chunk_overlap", 100)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes) == ["made", "refused"]
        with services.database.system_transaction() as connection:
            assert not load_snapshot(connection, services.sealer).unreadable


def test_versions_become_visible_in_the_order_of_their_numbers(services: Services) -> None:
    with services.database.system_transaction() as first:
        assert change_settings(first, services.sealer, {"rag_top_k": 7}, changed_by="slow") == 1
        second = threading.Thread(target=put, args=(services, "rag_top_k", 8))
        second.start()
        eventually(lambda: waits_for_lock(services))
        assert second.is_alive()
        with services.database.system_transaction() as connection:
            assert settings_version(connection) == 0
    second.join(LIMIT_SECONDS)
    with services.database.system_transaction() as connection:
        rows = connection.execute(
            select(SettingChange.version, SettingChange.new).order_by(SettingChange.version)
        ).all()
    assert [(row.version, row.new) for row in rows] == [(1, {"value": 7}), (2, {"value": 8})]


def test_a_change_that_is_not_committed_leaves_no_gap(services: Services) -> None:
    with services.database.system_transaction() as connection, connection.begin_nested() as part:
        assert change_settings(connection, services.sealer, {"rag_top_k": 7}, changed_by="test") == 1
        part.rollback()
    assert put(services, "rag_top_k", 8) == 1


def test_the_same_value_again_is_no_change(services: Services) -> None:
    assert put(services, "rag_embedding_api_key", "sk-1") == 1
    assert put(services, "rag_embedding_api_key", "sk-1") == 1
    assert put(services, "rag_top_k", "7") == 2
    assert put(services, "rag_top_k", 7) == 2
    assert remove(services, "rag_hybrid") == 2


def test_a_refused_change_stores_nothing(services: Services) -> None:
    put(services, "rag_chunk_overlap", 80, tenant="acme")
    with pytest.raises(SettingInvalid, match="'acme'"):
        put(services, "rag_chunk_size", 100)
    with pytest.raises(SettingInvalid, match="no setting"):
        remove(services, "magic")
    with services.database.system_transaction() as connection:
        assert len(list_changes(connection)) == 1


def test_returning_a_setting_to_its_default_is_checked_too(services: Services) -> None:
    put(services, "rag_chunk_overlap", 20)
    put(services, "rag_chunk_size", 50)
    with pytest.raises(SettingInvalid, match="at most half"):
        remove(services, "rag_chunk_overlap")
    with services.database.system_transaction() as connection:
        version = change_settings(
            connection,
            services.sealer,
            {},
            unset=["rag_chunk_size", "rag_chunk_overlap"],
            changed_by="test",
        )
    assert version == 3
    assert services.load_snapshot().settings == RuntimeSettings()


def test_a_rollback_is_one_version_for_all_tenants_and_says_what_it_was(services: Services) -> None:
    put(services, "rag_top_k", 7)
    put(services, "rag_top_k", 9, tenant="acme")
    put(services, "rag_hybrid", value=False)
    remove(services, "rag_top_k")
    put(services, "rag_top_k", 3, tenant="acme")
    assert back_to(services, 2) == 6
    snapshot = services.load_snapshot()
    assert (snapshot.version, snapshot.settings.rag_top_k, snapshot.settings.rag_hybrid) == (6, 7, True)
    assert snapshot.for_tenant("acme").rag_top_k == 9
    with services.database.system_transaction() as connection:
        rows = [row for row in list_changes(connection) if row["version"] == 6]
    assert {(row["tenant"], row["key"]) for row in rows} == {
        ("", "rag_top_k"),
        ("", "rag_hybrid"),
        ("acme", "rag_top_k"),
    }
    assert {row["note"] for row in rows} == {"rollback to 2"}
    assert back_to(services, 2) == 6
    with pytest.raises(SettingInvalid, match="no configuration version 7"):
        back_to(services, 7)
    assert back_to(services, 0) == 7
    assert services.load_snapshot().settings == RuntimeSettings()


def test_a_secret_comes_back_sealed_as_it_was(services: Services) -> None:
    put(services, "rag_embedding_api_key", "sk-old")
    with services.database.system_transaction() as connection:
        sealed = connection.execute(select(Setting.value)).scalar_one()
    put(services, "rag_embedding_api_key", "sk-new")
    back_to(services, 1)
    with services.database.system_transaction() as connection:
        assert connection.execute(select(Setting.value)).scalar_one() == sealed
        stored = connection.execute(text("SELECT json_agg(h)::text FROM settings_history h")).scalar_one()
    assert "sk-old" not in stored
    secret = services.load_snapshot().settings.rag_embedding_api_key
    assert secret.get_secret_value() == "sk-old"


def test_a_rollback_to_a_secret_that_cannot_be_read_any_more_is_refused(services: Services) -> None:
    put(services, "rag_embedding_api_key", "sk-old")
    remove(services, "rag_embedding_api_key")
    other = Sealer([Fernet.generate_key().decode()])
    with (
        pytest.raises(SettingInvalid, match=r"rag_embedding_api_key: .*sealed with another key"),
        services.database.system_transaction() as connection,
    ):
        roll_back(connection, other, 1, changed_by="test")
    assert services.load_snapshot().version == 2


def test_without_the_seal_key_other_settings_are_read_and_changed_and_the_secret_can_be_set_again(
    services: Services,
) -> None:
    put(services, "rag_embedding_api_key", "sk-old")
    put(services, "rag_top_k", 7)
    other = Sealer([Fernet.generate_key().decode()])
    with services.database.system_transaction() as connection:
        snapshot = load_snapshot(connection, other)
        assert snapshot.settings.rag_top_k == 7
        assert [(one.key, one.tenant) for one in snapshot.unreadable] == [("rag_embedding_api_key", "")]
        change_settings(connection, other, {"rag_top_k": 8}, changed_by="test")
        change_settings(connection, other, {"rag_embedding_api_key": "sk-new"}, changed_by="test")
        snapshot = load_snapshot(connection, other)
    assert not snapshot.unreadable
    assert snapshot.settings.rag_embedding_api_key.get_secret_value() == "sk-new"


def test_a_value_that_was_spoilt_in_the_database_is_named_and_its_default_used(services: Services) -> None:
    put(services, "rag_chunk_size", 300)
    put(services, "rag_top_k", 7)
    with services.database.system_transaction() as connection:
        connection.execute(update(Setting).where(Setting.key == "rag_chunk_size").values(value={"value": 1}))
    snapshot = services.load_snapshot()
    assert [one.key for one in snapshot.unreadable] == ["rag_chunk_size"]
    assert (snapshot.settings.rag_chunk_size, snapshot.settings.rag_top_k) == (200, 7)
    assert put(services, "rag_chunk_size", 100) == 3
    assert not services.load_snapshot().unreadable


@pytest.mark.parametrize("stored", ["{}", '"text"', "null", '{"sealed": 5}', '{"value": {"a": 1}}'])
def test_whatever_lies_in_the_table_it_takes_nothing_down(services: Services, stored: str) -> None:
    put(services, "rag_top_k", 7)
    with services.database.system_transaction() as connection:
        connection.execute(text("UPDATE settings SET value = CAST(:stored AS jsonb)"), {"stored": stored})
    snapshot = services.load_snapshot()
    assert [one.key for one in snapshot.unreadable] == ["rag_top_k"]
    assert snapshot.settings.rag_top_k == 5
