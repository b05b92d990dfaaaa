"""A tenant's collections as Open WebUI's pgvector knowledge connection reads them.

A view in a schema of its own, and a role that may read this view and nothing else. The view has the name and
the columns of Open WebUI's default table: `document_chunk (id, collection_name, text, vector, vmetadata)`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from psycopg import conninfo, sql

from emberq.errors import InvalidRequest
from emberq.store.database import TENANT_VARIABLE

#: The view's name within its schema: Open WebUI's default table.
VIEW = "document_chunk"
#: Longest name in PostgreSQL, in bytes.
_MAX_NAME_BYTES = 63
#: Prefix of the role's name.
_PREFIX = "emberq_openwebui_"
#: Limits of the role: the time of one search, and its connections. Open WebUI opens one per search.
_STATEMENT_TIMEOUT, _CONNECTION_LIMIT = "30s", 50


@dataclass(frozen=True, slots=True)
class KnowledgeView:
    """The view of one tenant's collections.

    Attributes:
        tenant: The tenant.
        collection: Only this collection; all of the tenant's if empty.
        is_indexed: Whether searches may use the vector index. A search then takes milliseconds in a
            collection of any size, but the view is no security barrier any more: PostgreSQL may evaluate
            conditions of the role's own queries before those of the view, so that the role's password opens
            every tenant's texts.
        dimensions: The vectors' length, for an indexed view.
    """

    tenant: str
    collection: str = ""
    is_indexed: bool = False
    dimensions: int = 384

    @property
    def role(self) -> str:
        """The name of the role and of the schema."""
        name = _PREFIX + re.sub(r"[^a-z0-9_]", "_", self.tenant.lower())
        if len(name) > _MAX_NAME_BYTES:
            raise InvalidRequest("The tenant's name is too long for a role of its own.", hint="Shorten it.")
        return name

    def make_role(self, password: str) -> list[str]:
        """Return the statements that need CREATEROLE; running them again changes the password."""
        role = sql.Identifier(self.role)
        options = sql.SQL("LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS NOINHERIT")
        create = sql.SQL("CREATE ROLE {} {} CONNECTION LIMIT {}").format(
            role, options, sql.Literal(_CONNECTION_LIMIT)
        )
        once = (
            "DO $do$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {}) THEN {}; END IF; END $do$"
        )
        return [
            _text(sql.SQL(once).format(sql.Literal(self.role), create)),
            _text(sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, sql.Literal(password))),
            _text(sql.SQL("ALTER ROLE {} SET default_transaction_read_only = on").format(role)),
            _text(
                sql.SQL("ALTER ROLE {} SET statement_timeout = {}").format(
                    role, sql.Literal(_STATEMENT_TIMEOUT)
                )
            ),
            _text(sql.SQL("ALTER ROLE {} SET search_path = {}, public").format(role, role)),
            # The index goes on until it has found enough chunks of this tenant, in order of distance.
            _text(sql.SQL("ALTER ROLE {} SET hnsw.iterative_scan = 'strict_order'").format(role)),
        ]

    def make_view(self) -> list[str]:
        """Return the statements for the owner of emberq's tables; running them again replaces the view."""
        schema = sql.Identifier(self.role)
        name = sql.SQL("{}.{}").format(schema, sql.Identifier(VIEW))
        options = sql.SQL("" if self.is_indexed else " WITH (security_barrier)")
        if self.is_indexed:
            length = sql.Literal(self.dimensions)
            vector = sql.SQL("c.embedding::halfvec({})").format(length)
            condition = sql.SQL(" AND vector_dims(c.embedding) = {}").format(length)
        else:
            vector, condition = sql.SQL("{}").format(sql.Identifier("c", "embedding")), sql.SQL("").format()
        if self.collection:
            condition += sql.SQL(" AND k.name = {}").format(sql.Literal(self.collection))
        body = _BODY.format(vector=vector, tenant=sql.Literal(self.tenant), condition=condition)
        return [
            _text(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(schema)),
            _text(sql.SQL("DROP VIEW IF EXISTS {}").format(name)),
            _text(sql.SQL("CREATE VIEW {}{} AS\n{}").format(name, options, body)),
            _text(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(schema, schema)),
            _text(sql.SQL("GRANT SELECT ON {} TO {}").format(name, schema)),
        ]


#: Only visible versions of files. Chunks of older versions and of deleted files are deleted anyway; the
#: conditions are a second safeguard. Open WebUI shows page + 1.
_BODY = sql.SQL(
    """\
SELECT c.id::text AS id,
       k.name AS collection_name,
       coalesce(c.header || E'\\n', '') || c.text AS text,
       {vector} AS vector,
       f.metadata || jsonb_strip_nulls(jsonb_build_object(
           'name', f.name, 'source', f.name, 'collection', k.name, 'emberq_file_id', f.id,
           'page', c.page - 1, 'heading', c.heading, 'start_index', c.start)) AS vmetadata
FROM chunks c
JOIN files f ON f.id = c.file_id
JOIN collections k ON k.id = c.collection_id
WHERE c.tenant = {tenant} AND f.deleted_at IS NULL
  AND c.version = f.visible_version AND c.index_version = k.index_version{condition}"""
)


def endpoint(database_url: str, tenant: str, role: str, password: str) -> str:
    """Return the endpoint for Open WebUI: the database's address with another role and password.

    Args:
        database_url: SQLAlchemy's URL of emberq's database.
        tenant: The tenant of the view.
        role: The role.
        password: Its password.
    """
    plain = "postgresql://" + database_url.split("://", 1)[1]
    parts: dict[str, Any] = {
        name: value
        for name, value in conninfo.conninfo_to_dict(plain).items()
        if name in ("host", "hostaddr", "port", "dbname", "sslmode", "sslrootcert") and value
    }
    host, port = str(parts.pop("host", "localhost")), str(parts.pop("port", ""))
    database = quote(str(parts.pop("dbname", "emberq")), safe="")
    login = f"{quote(role, safe='')}:{quote(password, safe='')}"
    if host.startswith("/"):  # the directory of a Unix socket
        parts = {"host": host} | ({"port": port} if port else {}) | parts
        address = ""
    else:
        address = f"{host}:{port}" if port else host
    # The view reads tables with row-level security. Another tenant opens nothing: the view names its own.
    variable = tenant.replace("\\", "\\\\").replace(" ", "\\ ")
    parts["options"] = f"-c {TENANT_VARIABLE}={variable}"
    query = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in parts.items())
    return f"postgresql://{login}@{address}/{database}" + (f"?{query}" if query else "")


def connection_form(
    view: KnowledgeView, address: str, collections: Sequence[str], *, question: str
) -> list[dict[str, Any]]:
    """Return the bodies of `POST /api/v1/knowledge/external/source/create`, one for each collection.

    Args:
        view: The view.
        address: The result of `endpoint`.
        collections: The collections' names.
        question: A test query; Open WebUI refuses a source in which it finds nothing.
    """
    source = {
        "table_name": f"{view.role}.{VIEW}",
        "collection_field": "collection_name",
        "content_field": "text",
        "vector_field": "vector",
        "metadata_field": "vmetadata",
        "document_id_field": "id",
    }
    return [
        {
            "name": name,
            "description": f"emberq's collection {name}",
            "connection": {"name": f"emberq: {name}", "provider": "pgvector", "endpoint": address},
            "source": {"type": "collection", "name": name, "config": source},
            "test_query": question,
        }
        for name in collections
    ]


def _text(statement: sql.Composable) -> str:
    return statement.as_string(None)
