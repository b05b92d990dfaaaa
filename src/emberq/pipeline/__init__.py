"""From bytes to vectors: extract, split, embed, store."""
