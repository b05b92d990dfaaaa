"""Retries: which errors are transient, how long to wait, and how to run an operation again."""
