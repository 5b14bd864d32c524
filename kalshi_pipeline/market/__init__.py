"""What a Kalshi market is: prices and ticks, fees, the order book and its invariants."""
