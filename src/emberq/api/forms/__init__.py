"""Multipart forms, read as they arrive."""
