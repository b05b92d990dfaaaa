"""Migration of the schema to the newest version (Alembic), safe if several processes try at once."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from emberq.store.database import Database

#: Advisory lock of migrations; no other lock has this number.
_MIGRATION_LOCK = 0x656D6265


def migrate(database: Database) -> tuple[str | None, str]:
    """Run the missing migrations.

    Returns:
        The schema's revision before (nothing for an empty database) and after.

    Raises:
        DatabaseUnavailable: If PostgreSQL does not answer.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with database.system_transaction() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
        before = MigrationContext.configure(connection).get_current_revision()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return before, str(ScriptDirectory.from_config(config).get_current_head())
