"""The schema's migrations, in order."""
