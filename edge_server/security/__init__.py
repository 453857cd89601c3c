"""Authentication: keys and tokens."""
