"""Migration of the schema to the newest version (Alembic), safe if several processes try at once."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from emberq.errors import InvalidRequest
from emberq.store.database import Database
from emberq.store.roles import grant_roles, may_migrate

#: Advisory lock of migrations; no other lock has this number.
_MIGRATION_LOCK = 0x656D6265


def migrate(database: Database) -> tuple[str | None, str]:
    """Run the missing migrations, and grant the roles of the API and the workers what they need.

    A role that does not own the tables changes nothing, and finds out whether the schema is the newest.

    Returns:
        The schema's revision before (nothing for an empty database) and after.

    Raises:
        DatabaseUnavailable: If PostgreSQL does not answer.
        InvalidRequest: If a migration is missing that this role may not run.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with database.system_transaction() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
        before = MigrationContext.configure(connection).get_current_revision()
        after = str(ScriptDirectory.from_config(config).get_current_head())
        if before != after:
            if not may_migrate(connection):
                raise InvalidRequest(
                    f"The schema is at revision {before}, this version of emberq needs {after}, and its role"
                    " does not own the tables.",
                    hint="Run `emberq migrate` with the owner's EMBERQ_DATABASE_URL.",
                )
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
        grant_roles(connection, anew=before != after)
    return before, after
