"""The sandbox: files are read in confined processes, which may hang, crash or use too much memory."""
