"""Statements about hosts, settings, pauses and API keys, and secrets."""
