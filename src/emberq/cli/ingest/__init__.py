"""From folders into a collection: the files, their ids, the comparison, uploads and deletions."""
