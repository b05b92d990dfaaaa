"""Plain texts: encodings, tables of values, JSON, light markup, LaTeX, subtitles and calendars."""
