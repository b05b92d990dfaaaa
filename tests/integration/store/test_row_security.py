"""Row-level security: every table with a tenant shows and takes only rows of the transaction's tenant."""

from __future__ import annotations

import uuid
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import ProgrammingError

from emberq.store.services import Services

#: Tables that have nothing of a tenant: a table that is new belongs here or needs a tenant and a policy.
_WITHOUT_TENANT = {"alembic_version", "hosts", "past_outcomes"}
#: A row of a tenant, by table, in the order of the references.
_ROWS = {
    "collections": "(id, tenant, name, embedding_model) VALUES (:id, :tenant, 'docs', 'm')",
    "files": "(id, tenant, collection_id, external_id, name) VALUES (:id, :tenant, :id, 'x', 'x')",
    "file_versions": "(tenant, file_id, version, sha256, size, blob) VALUES (:tenant, :id, 1, 'x', 1, 'x')",
    "jobs": "(id, tenant, collection_id, file_id, version, max_attempts)"
    " VALUES (:id, :tenant, :id, :id, 1, 3)",
    "chunks": '(tenant, collection_id, file_id, version, index_version, ordinal, text, start, "end",'
    " fingerprint, embedding) VALUES (:tenant, :id, :id, 1, 1, 0, 'x', 0, 1, 'x', '[1]')",
    "embedding_cache": "(tenant, fingerprint, vector, tokens) VALUES (:tenant, 'x', 'x', 1)",
    "idempotency_keys": "(tenant, key, request, file_id, job_id) VALUES (:tenant, 'x', 'x', :id, :id)",
    "turns": "(tenant, started, ended, taken) VALUES (:tenant, 0, 1, 1)",
    "pauses": "(scope, tenant, name) VALUES ('tenant', :tenant, :tenant)",
    "breakers": "(tenant, failures, error_code, failed_at) VALUES (:tenant, 1, 'x', now())",
    "api_keys": "(id, tenant, name, prefix, digest, scopes)"
    " VALUES (:id, :tenant, 'x', 'x', convert_to(:tenant, 'UTF8'), '{read}')",
    "settings": "(tenant, key, value) VALUES (:tenant, 'rag_top_k', '{\"value\": 7}')",
    "settings_history": "(version, tenant, key, changed_by) VALUES (1, :tenant, 'rag_top_k', 'x')",
    "audit_log": "(actor, tenant, action, target) VALUES ('x', :tenant, 'x', 'x')",
}
#: Tables with rows that are for all tenants, which have none of their own.
_SHARED = {"pauses", "settings"}


@pytest.fixture
def filled(services: Services) -> Services:
    """Two tenants, each with a row in every table."""
    for tenant in ("north", "south"):
        with services.database.tenant_transaction(tenant) as connection:
            for table in _ROWS:
                insert(connection, table, tenant)
    return services


def insert(connection: Connection, table: str, tenant: str) -> None:
    connection.execute(text(insertion(table)), parameters(tenant))


def insertion(table: str) -> str:
    return f"INSERT INTO {table} {_ROWS[table]}"


def parameters(tenant: str) -> dict[str, object]:
    return {"id": uuid.uuid5(uuid.NAMESPACE_DNS, tenant), "tenant": tenant}


def tenants_in(connection: Connection, table: str) -> list[str]:
    return sorted(connection.execute(text(f"SELECT tenant FROM {table}")).scalars())


def test_every_table_with_a_tenant_enforces_it_for_its_owner_too(services: Services) -> None:
    with services.database.transaction() as connection:
        tables = connection.execute(
            text(
                "SELECT relname, relrowsecurity AND relforcerowsecurity AS is_enforced,"
                " EXISTS (SELECT FROM pg_policy WHERE polrelid = pg_class.oid AND polcmd = '*') AS is_ruled,"
                " EXISTS (SELECT FROM pg_attribute WHERE attrelid = pg_class.oid AND attname = 'tenant'"
                " AND attnotnull) AS has_tenant"
                " FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"
            )
        ).all()
    names = {row.relname for row in tables}
    assert names == _WITHOUT_TENANT | _ROWS.keys(), "a new table needs a policy, and a row above"
    for row in tables:
        protected = row.relname not in _WITHOUT_TENANT
        assert (row.is_enforced, row.is_ruled, row.has_tenant) == (protected,) * 3, row.relname


def test_a_table_shows_and_takes_only_rows_of_the_tenant(filled: Services) -> None:
    for table in _ROWS:
        with filled.database.system_transaction() as connection:
            assert tenants_in(connection, table) == ["north", "south"]
        with filled.database.tenant_transaction("north") as connection:
            assert tenants_in(connection, table) == ["north"]
            assert connection.execute(text(f"UPDATE {table} SET tenant = tenant")).rowcount == 1
        for other in ("south", ""):
            refused(filled, f"UPDATE {table} SET tenant = '{other}'", tenant="north")
        refused(filled, insertion(table), tenant="north", row="west")
    for table in reversed(_ROWS):
        with filled.database.tenant_transaction("north") as connection:
            connection.execute(text(f"DELETE FROM {table}"))
        with filled.database.system_transaction() as connection:
            assert tenants_in(connection, table) == ["south"]


def test_without_a_tenant_a_table_shows_and_takes_nothing(filled: Services) -> None:
    # The variable of an earlier transaction on the same connection is empty, not missing.
    for table in _ROWS:
        for opened in (filled.database.transaction(), filled.database.tenant_transaction("")):
            with opened as connection:
                assert tenants_in(connection, table) == []
        refused(filled, insertion(table), tenant="", row="west")
        refused(filled, insertion(table), tenant="", row="")


def test_rows_for_all_tenants_are_read_by_each_and_changed_by_none(filled: Services) -> None:
    for table in _SHARED:
        with filled.database.system_transaction() as connection:
            insert(connection, table, "")
        with filled.database.tenant_transaction("north") as connection:
            assert tenants_in(connection, table) == ["", "north"]
            connection.execute(text(f"DELETE FROM {table}"))
        with filled.database.system_transaction() as connection:
            assert tenants_in(connection, table) == ["", "south"]


def refused(services: Services, statement: str, *, tenant: str, row: str = "") -> None:
    with (
        pytest.raises(ProgrammingError, match="row-level security"),
        services.database.tenant_transaction(tenant) as connection,
    ):
        connection.execute(text(statement), parameters(row))


@pytest.mark.parametrize("tenant", ["o'neil", 'say "hi"', "back\\slash", "100% :bind $1 ?", "ü 東", "x; --"])
def test_any_name_is_one_tenant(services: Services, tenant: str) -> None:
    with services.database.tenant_transaction(tenant) as connection:
        insert(connection, "turns", tenant)
        assert tenants_in(connection, "turns") == [tenant]
    with services.database.tenant_transaction(tenant + "x") as connection:
        assert tenants_in(connection, "turns") == []


def test_the_tenant_is_sent_with_begin(services: Services) -> None:
    with services.database.tenant_transaction("north"):
        pass
    sent: list[str] = []
    original = psycopg.Connection.execute

    def execute(connection: Any, query: str, *args: Any, **options: Any) -> Any:
        sent.append(query)
        return original(connection, query, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psycopg.Connection, "execute", execute)
        with services.database.tenant_transaction("north") as connection:
            connection.execute(text("SELECT 1"))
    assert sent == ["BEGIN; SET LOCAL emberq.tenant = 'north'"]
