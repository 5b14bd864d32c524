"""Rows of a report -> inline SVG, coloured by the page, equal bytes for equal input."""
