"""Entry scripts of users, contained in worker processes."""
