"""Row-level security: the policies of a table with a tenant, as migrations create them."""

from __future__ import annotations

from alembic import op

#: The tenant of the transaction; NULL outside of one, which is equal to no tenant. Read once per statement.
_TENANT = "(SELECT nullif(current_setting('emberq.tenant', true), ''))"
_IS_SYSTEM = "(SELECT current_setting('emberq.system', true)) = 'on'"
#: A test for NULL, not a comparison: the planner takes it for nearly all rows. Of `tenant = …` it would
#: believe that it leaves one tenant's part of what the other conditions leave, although these name the tenant
#: as well, and search a large collection without its index.
_OWN = f"(CASE WHEN {_IS_SYSTEM} OR tenant = {_TENANT} THEN true END) IS NOT NULL"


def protect(table: str, *, is_shared: bool = False) -> None:
    """Let a table show and take only rows of the transaction's tenant; its owner is no exception.

    Args:
        table: A table with a column `tenant`.
        is_shared: Whether every tenant may read the rows without a tenant: those of all tenants.
    """
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY tenant ON {table} USING ({_OWN})")
    if is_shared:
        op.execute(
            f"CREATE POLICY shared ON {table} FOR SELECT USING (tenant = '' AND {_TENANT} IS NOT NULL)"
        )


def expose(table: str) -> None:
    """Undo `protect`."""
    op.execute(f"DROP POLICY IF EXISTS shared ON {table}")
    op.execute(f"DROP POLICY tenant ON {table}")
    op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
