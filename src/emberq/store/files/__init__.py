"""Statements about files: uploads, collections, chunks, blobs and search."""
