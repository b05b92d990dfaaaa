"""PDF, read by pdfium."""
