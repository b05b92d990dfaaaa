"""What every job gets: a scope that cleans up after it, limits, a temporary directory, progress."""
