"""Word files of both kinds, and RTF."""
