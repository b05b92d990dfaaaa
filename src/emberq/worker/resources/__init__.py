"""Resources are loaded once per host before the fork; connections are opened by each horse."""
