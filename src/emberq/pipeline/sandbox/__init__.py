"""The sandbox: a file is read in a confined child process, which may hang, crash or use too much memory."""
