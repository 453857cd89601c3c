"""The agent as one file: a zip application with all that it needs, and the image that carries it to devices."""
