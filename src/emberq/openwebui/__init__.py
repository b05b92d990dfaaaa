"""The integration with Open WebUI; no other room of emberq depends on it."""
