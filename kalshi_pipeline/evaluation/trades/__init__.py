"""Trade by trade: what a policy did, and where its profit came from.

control   a round trip held to the end instead
clock     all episodes as one portfolio on a 5-minute clock
dissect   fills -> the book each met, mark-outs, flags; an episode's profit in parts
examples  single trades with the book around them
lots      FIFO round trips
section   the report's `trades`
tables    `trades.parquet` and `trips.parquet`
"""
