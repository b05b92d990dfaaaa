"""Texts of OpenDocument, and what its presentations share with them."""
