"""The extraction of documents from files: one module for each family of file formats."""
