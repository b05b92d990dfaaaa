"""Row-level security on every table with a tenant; the versions of files get a tenant of their own."""

import sqlalchemy as sa
from alembic import op

from emberq.store.migrations.row_security import expose, protect

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TABLES = (
    "api_keys",
    "audit_log",
    "breakers",
    "chunks",
    "collections",
    "embedding_cache",
    "file_versions",
    "files",
    "idempotency_keys",
    "jobs",
    "settings_history",
    "turns",
)
#: Tables whose rows without a tenant are for all: the settings of all tenants, and the pause of a queue.
_SHARED_TABLES = ("pauses", "settings")


def upgrade() -> None:
    op.add_column("file_versions", sa.Column("tenant", sa.Text(), nullable=True))
    op.execute(
        "UPDATE file_versions SET tenant = files.tenant FROM files WHERE files.id = file_versions.file_id"
    )
    op.alter_column("file_versions", "tenant", nullable=False)
    for table in _TABLES:
        protect(table)
    for table in _SHARED_TABLES:
        protect(table, is_shared=True)


def downgrade() -> None:
    for table in (*_TABLES, *_SHARED_TABLES):
        expose(table)
    op.drop_column("file_versions", "tenant")
