"""Configuration: the environment of a process, and versioned snapshots of the run-time settings."""
