"""Compiled files of an image: what they need of a base, and what it has."""
