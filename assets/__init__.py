"""The flow as Dagster assets; each reads, calls one stage and reports what was published."""
