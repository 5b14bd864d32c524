"""Rows of a report -> inline SVG drawn by matplotlib, coloured by the page, equal bytes."""
