"""The truth: PostgreSQL tables, statements, blobs and secrets."""
