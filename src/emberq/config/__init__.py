"""Settings: the process's environment and the versioned run-time snapshots."""
