"""Alembic's environment: runs the migrations on the connection that `migrate` passes."""

from alembic import context

# Imported for their tables, which then stand in `Base.metadata`.
from emberq.store.schema import admin_tables, tables  # noqa: F401
from emberq.store.schema.base import Base

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Base.metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
