"""Words placed on a page: columns, blocks, and what OCR finds in pictures."""
