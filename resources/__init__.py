"""Dagster resources: where raw recordings live, and the warehouse."""
