"""Statements about jobs: admission, claim, end of an attempt, queries and statistics."""
