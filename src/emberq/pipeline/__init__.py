"""The pipeline: a file is extracted, split, embedded and stored."""
