"""Entry scripts of users, run in worker processes."""
