"""HTML, and what is made of the same parts: books, XML and notebooks."""
