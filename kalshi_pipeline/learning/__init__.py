"""Learners on the vector environment: which market is next, what is learned, what stays of it."""
