"""Hosts, settings, API keys and secrets."""
