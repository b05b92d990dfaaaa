"""Containers of other files: archives with their limits, and compound files."""
