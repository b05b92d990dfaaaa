"""Open WebUI's own file processing, run by a warm worker."""
