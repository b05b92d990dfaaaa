"""Statements about jobs: admission, claim, finish, queries, statistics."""
