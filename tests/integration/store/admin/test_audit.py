"""The audit log: pages, its retention, and that an entry lives and dies with its change."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import func, update

from emberq.dispatch.purge import purge_audit_log
from emberq.store.admin.audit import Action, list_entries, record
from emberq.store.admin.changes import change_settings, roll_back
from emberq.store.schema.admin_tables import AuditEntry
from emberq.store.services import Services


def test_it_is_read_page_by_page(services: Services) -> None:
    with services.database.system_transaction() as connection:
        for number in range(5):
            record(connection, actor="test", action=Action.PAUSE, target=str(number))
        first = list_entries(connection, limit=3)
        rest = list_entries(connection, limit=3, before=first[-1]["id"])
    assert [entry["target"] for entry in (*first, *rest)] == ["4", "3", "2", "1", "0"]


def test_a_change_of_settings_is_told_without_its_values(services: Services) -> None:
    change = {"rag_top_k": 7, "rag_embedding_api_key": "sk-canary"}
    with services.database.system_transaction() as connection:
        version = change_settings(connection, services.sealer, change, tenant="acme", changed_by="boss")
        roll_back(connection, services.sealer, 0, changed_by="boss")
        entries = list_entries(connection, tenant="acme")
    assert [(entry["action"], entry["target"]) for entry in entries] == [
        ("setting.unset", "rag_top_k"),
        ("setting.unset", "rag_embedding_api_key"),
        ("setting.set", "rag_top_k"),
        ("setting.set", "rag_embedding_api_key"),
    ]
    assert entries[-1]["detail"] == {"version": version}
    assert "canary" not in str(entries)


def test_an_entry_is_gone_with_a_change_that_fails(services: Services) -> None:
    def fail() -> None:
        with services.database.system_transaction() as connection:
            record(connection, actor="test", action=Action.PAUSE, target="x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with services.database.system_transaction() as connection:
        assert list_entries(connection) == []


def test_old_entries_are_purged_unless_they_are_kept_for_ever(services: Services) -> None:
    with services.database.system_transaction() as connection:
        record(connection, actor="test", action=Action.PAUSE, target="old")
        connection.execute(update(AuditEntry).values(at=func.now() - timedelta(days=2)))
        record(connection, actor="test", action=Action.PAUSE, target="new")

    assert purge_audit_log(services, retention_seconds=0) == 0
    assert purge_audit_log(services, retention_seconds=86400) == 1
    with services.database.system_transaction() as connection:
        assert [entry["target"] for entry in list_entries(connection)] == ["new"]
