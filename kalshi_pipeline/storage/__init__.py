"""The only code that touches the warehouse's files."""
