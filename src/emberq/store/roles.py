"""The roles of the database: the owner of the tables, and those of the API and the workers with less."""

from __future__ import annotations

from sqlalchemy import Connection, text

API_ROLE = "emberq_api"
WORKER_ROLE = "emberq_worker"

_CHANGE = "SELECT, INSERT, UPDATE, DELETE"
#: What the roles may do with a table, where that is not everything with its rows.
_API_TABLES = {"alembic_version": "SELECT"}
_WORKER_TABLES = {
    "alembic_version": "SELECT",
    "api_keys": "",
    "audit_log": "",
    # FOR KEY SHARE needs UPDATE.
    "collections": "SELECT, UPDATE",
    "pauses": "SELECT",
    "settings": "SELECT",
    "settings_history": "SELECT",
}
_OWN_TABLES = text(
    "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() AND tableowner = current_user"
    " ORDER BY tablename"
)
_IS_OTHERS = text(
    "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'alembic_version'"
    " AND NOT pg_has_role(tableowner, 'USAGE')"
)
_EXISTING = text("SELECT rolname FROM pg_roles WHERE rolname = ANY(:names)")
_WORDS_ARE_LEAKPROOF = text(
    "SELECT proleakproof FROM pg_proc WHERE oid = 'pg_catalog.ts_match_vq(tsvector, tsquery)'::regprocedure"
)
_BYPASSES = text("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user")


def may_migrate(connection: Connection) -> bool:
    """Tell whether the tables are the connection's role's to change, or are not there yet."""
    return not connection.execute(_IS_OTHERS).scalar_one()


def grant_roles(connection: Connection, *, anew: bool) -> None:
    """Grant the roles that exist what they need; only the owner of the tables can, others change nothing.

    Args:
        connection: The transaction.
        anew: Whether to grant it to roles that have it already: the tables have changed.
    """
    tables = connection.execute(_OWN_TABLES).scalars().all()
    for role in connection.execute(_EXISTING, {"names": [API_ROLE, WORKER_ROLE]}).scalars().all():
        if not tables or not (anew or _lacks(connection, role)):
            continue
        special = _API_TABLES if role == API_ROLE else _WORKER_TABLES
        connection.execute(text(f"REVOKE ALL ON {', '.join(tables)} FROM {role}"))
        for table in tables:
            if privileges := special.get(table, _CHANGE):
                connection.execute(text(f"GRANT {privileges} ON {table} TO {role}"))
        connection.execute(text(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}"))


def _lacks(connection: Connection, role: str) -> bool:
    """Tell whether a role was made after the last grant."""
    may_read = text("SELECT has_table_privilege(:role, 'alembic_version', 'SELECT')")
    return not connection.execute(may_read, {"role": role}).scalar_one()


def bypasses_row_security(connection: Connection) -> bool:
    """Tell whether the policies do not hold for the connection's role: a superuser, or one with BYPASSRLS."""
    return bool(connection.execute(_BYPASSES).scalar_one())


def words_use_index(connection: Connection) -> bool:
    """Tell whether a keyword search can use its index below a policy."""
    return bool(connection.execute(_WORDS_ARE_LEAKPROOF).scalar_one())
