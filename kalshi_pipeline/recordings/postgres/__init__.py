"""Sessions of a collector's PostgreSQL database: read in pages, recovered, and written back.

Which tables and columns there are (`schema`); a session's facts, and one session as a recording
(`sessions`); pages of rows to columns, each row checked (`rows`); snapshots, changes and trades in
one order, cut into connections (`order`); the conventions of the four ladders, and how mislaid
sizes are recovered (`ladders`); all of it into a message table (`reader`).
"""
