"""The scope of a job: limits, progress, a temporary directory, and the cleanup after it."""
