"""Routes that Open WebUI calls."""
