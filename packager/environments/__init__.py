"""Environments: what a user's script needs, read from conda and pip files, kept by name and version."""
