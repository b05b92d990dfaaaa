"""The store: PostgreSQL tables and statements, blobs and secrets."""
