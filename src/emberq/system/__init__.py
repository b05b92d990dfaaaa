"""Facts about processes and the operating system. Knows no job."""
