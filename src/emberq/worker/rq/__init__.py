"""Changes to RQ's own worker, one concern per module."""
