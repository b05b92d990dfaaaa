"""Retries: which errors pass, how long to pause, and how to run an operation again."""
