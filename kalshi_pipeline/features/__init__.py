"""Books to feature tensors, 128 steps at a time or message by message."""
