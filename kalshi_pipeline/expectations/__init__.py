"""What must hold of each published table before anything is built on it, as Great Expectations.

A stage's module computes a small *profile* of what was published (a row a session, a market or a
feature; the counting is done by DuckDB or NumPy in bounded memory) and states what is expected of
it. `validation.py` runs the expectations, `validated.py` publishes the outcome and its page.
"""
