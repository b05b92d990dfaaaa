"""The source of a file: where its uploader took it from."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("files", sa.Column("source", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("files", "source")
