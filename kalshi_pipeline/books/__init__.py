"""Messages to trusted books: replayed, written, measured, with what traded beside them."""
