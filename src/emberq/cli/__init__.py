"""The command line: thin commands over the REST API and the processes."""
