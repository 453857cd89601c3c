"""Workspaces: what a person or a team keeps, where it is kept, and its upkeep."""
