"""A client of Open WebUI's API: imports folders and finishes files that a crash left half done."""
