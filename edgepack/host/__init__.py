"""This machine: files that are written whole, the console, and uv."""
