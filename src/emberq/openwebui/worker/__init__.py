"""Open WebUI's own file processing, run in RQ jobs by warm workers."""
