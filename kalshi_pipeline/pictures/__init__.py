"""Small pictures of what was published, for whoever looks at it where it was made."""
