"""The view that Open WebUI reads: whose chunks are in it, and which searches use the vector index."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from pgvector import Vector
from pgvector.psycopg import register_vector

from emberq.openwebui.external_knowledge import VIEW, KnowledgeView, endpoint

#: As Open WebUI 0.12.4 asks.
SEARCH = (
    "SELECT id AS id, text AS content, vmetadata AS metadata, vector <=> %s AS distance"
    f" FROM {VIEW} WHERE collection_name = %s ORDER BY distance ASC LIMIT %s"
)


def vector_of(number: int, dimensions: int = 384) -> Vector:
    return Vector([1.0 if place == number else 0.01 for place in range(dimensions)])


@pytest.fixture
def owner(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """The owner of emberq's tables, with two tenants' chunks in them."""
    with psycopg.connect(plain(database_url), autocommit=True, options="-c emberq.system=on") as connection:
        register_vector(connection)
        for tenant in ("ours", "theirs"):
            add(connection, tenant, "docs", f"{tenant} one", 1)
            add(connection, tenant, "docs", f"{tenant} two", 2)
        yield connection


def plain(url: str) -> str:
    return "postgresql://" + url.split("://", 1)[1]


def add(
    connection: psycopg.Connection[Any], tenant: str, collection: str, text: str, number: int, **file: Any
) -> None:
    """Add a file with one chunk."""
    connection.execute(
        "INSERT INTO collections (id, tenant, name, embedding_model) VALUES (%s, %s, %s, 'm')"
        " ON CONFLICT DO NOTHING",
        (uuid.uuid4(), tenant, collection),
    )
    file_id, dimensions = uuid.uuid4(), file.pop("dimensions", 384)
    connection.execute(
        "INSERT INTO files (id, tenant, collection_id, external_id, name, visible_version, deleted_at)"
        " SELECT %s, tenant, id, %s, %s, %s, %s FROM collections WHERE tenant = %s AND name = %s",
        (
            file_id,
            str(file_id),
            f"{text}.txt",
            file.get("visible", 1),
            file.get("deleted"),
            tenant,
            collection,
        ),
    )
    connection.execute(
        "INSERT INTO chunks (tenant, collection_id, file_id, version, index_version, ordinal, text,"
        ' start, "end", page, fingerprint, embedding)'
        " SELECT tenant, collection_id, id, 1, %s, 0, %s, 0, 3, 4, '', %s::vector::halfvec"
        " FROM files WHERE id = %s",
        (file.get("index_version", 1), text, vector_of(number, dimensions), file_id),
    )


def open_view(
    owner: psycopg.Connection[Any], database_url: str, view: KnowledgeView
) -> psycopg.Connection[Any]:
    """Make role and view, and return the role's connection."""
    with psycopg.connect(plain(database_url), autocommit=True) as admin:
        admin.execute("SELECT '[1]'::vector")
        for statement in view.make_role("a-password"):
            admin.execute(statement.encode())
    for _ in range(2):
        for statement in view.make_view():
            owner.execute(statement.encode())
    address = endpoint(database_url, view.tenant, view.role, "a-password")
    made = psycopg.connect(address, autocommit=True)
    register_vector(made)
    return made


@pytest.mark.parametrize("indexed", [False, True])
def test_only_what_is_visible_of_the_tenant_is_in_it(
    owner: psycopg.Connection[Any], database_url: str, indexed: bool
) -> None:
    add(owner, "ours", "docs", "deleted", 1, deleted="2026-01-01T00:00:00Z")
    add(owner, "ours", "docs", "not yet visible", 1, visible=None)
    add(owner, "ours", "docs", "replaced", 1, visible=2)
    add(owner, "ours", "docs", "next index version", 1, index_version=2)
    add(owner, "ours", "longer", "other model", 1, dimensions=512)
    with open_view(owner, database_url, KnowledgeView("ours", is_indexed=indexed)) as reader:
        rows = reader.execute(SEARCH.encode(), (vector_of(2), "docs", 10)).fetchall()
        assert [row[1] for row in rows] == ["ours two", "ours one"]
        assert rows[0][3] == pytest.approx(0, abs=1e-3)
        assert rows[0][2]["name"] == rows[0][2]["source"] == "ours two.txt"
        assert rows[0][2]["page"] == 3, "Open WebUI adds one"
        longer = reader.execute(
            SEARCH.encode(), (vector_of(1, 384 if indexed else 512), "longer", 10)
        ).fetchall()
        assert [row[1] for row in longer] == ([] if indexed else ["other model"])


def test_one_collection_alone(owner: psycopg.Connection[Any], database_url: str) -> None:
    add(owner, "ours", "secret", "secret", 1)
    with open_view(owner, database_url, KnowledgeView("ours", "docs")) as reader:
        assert reader.execute(f"SELECT DISTINCT collection_name FROM {VIEW}".encode()).fetchall() == [
            ("docs",)
        ]


def test_the_barrier_holds_against_conditions_of_the_role_s_own(
    owner: psycopg.Connection[Any], database_url: str
) -> None:
    with open_view(owner, database_url, KnowledgeView("ours")) as reader:
        reader.execute("SET default_transaction_read_only = off")
        # A condition that tells what it is evaluated on, and costs so little that it would come first.
        reader.execute(
            "CREATE FUNCTION pg_temp.tell(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS"
            " $$ BEGIN RAISE NOTICE '%', $1; RETURN true; END $$"
        )
        told: list[str] = []
        reader.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))
        reader.execute(f"SELECT count(*) FROM {VIEW} WHERE pg_temp.tell(text)".encode())
    assert sorted(told) == ["ours one", "ours two"]


def test_a_search_in_the_indexed_view_uses_the_vector_index(
    owner: psycopg.Connection[Any], database_url: str
) -> None:
    with open_view(owner, database_url, KnowledgeView("ours", is_indexed=True)) as reader:
        # With four chunks it would rather sort them.
        for setting in ("enable_seqscan", "enable_sort", "enable_bitmapscan"):
            reader.execute(f"SET {setting} = off".encode())
        plan = reader.execute(f"EXPLAIN {SEARCH}".encode(), (vector_of(2), "docs", 5)).fetchall()
        assert any("chunks_embedding_384" in line for (line,) in plan), plan
        assert reader.execute("SHOW hnsw.iterative_scan").fetchone() == ("strict_order",)
