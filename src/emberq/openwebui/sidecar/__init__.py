"""Programs beside Open WebUI that use its REST API: the watcher, and the import of folders."""
