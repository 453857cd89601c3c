"""The user's own package: it may have any name that the server's own packages do not have."""
