"""Frames scanned by compiled code: what is sure becomes columns, the rest is left alone."""
