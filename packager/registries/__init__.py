"""Logins to image registries: where they come from, short-lived ones to hand on, and files of them for engines."""
