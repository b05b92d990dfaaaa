"""What Office files share: parts, properties, drawings, formulas and formats of numbers."""
