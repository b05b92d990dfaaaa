"""The sandbox: a file is read in a confined child process that may hang, crash or swell."""
