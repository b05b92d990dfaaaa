"""Presentations of both kinds of PowerPoint, and of OpenDocument."""
