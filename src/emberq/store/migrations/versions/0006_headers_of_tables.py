"""The header of the table to which a chunk's rows belong, also among the words that are searched."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TSVECTOR

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("chunks", sa.Column("header", sa.Text(), nullable=True))
    _replace_words("coalesce(heading, '') || ' ' || coalesce(header, '') || ' ' || text")


def downgrade() -> None:
    _replace_words("coalesce(heading, '') || ' ' || text")
    op.drop_column("chunks", "header")


def _replace_words(searched: str) -> None:
    """Make the column of words anew; its index goes with it."""
    op.drop_column("chunks", "words")
    words = sa.Computed(f"to_tsvector('english', {searched})", persisted=True)
    op.add_column("chunks", sa.Column("words", TSVECTOR(), words, nullable=False))
    op.create_index("chunks_words", "chunks", ["words"], unique=False, postgresql_using="gin")
