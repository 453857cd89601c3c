"""Build contexts: a layer plan as a folder with a Dockerfile, and images that an engine builds of it."""
