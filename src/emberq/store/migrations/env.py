"""Alembic's entry: runs the migrations on the connection that `migrate` hands over."""

from alembic import context

from emberq.store.schema.tables import Base

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Base.metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
