"""Files and collections: statements about uploads, chunks and search, and the blob store."""
