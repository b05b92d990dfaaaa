"""The warm horse: the process that runs the jobs, and how the worker starts, watches and replaces it."""
