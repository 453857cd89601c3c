"""What is beside and in a model file: its manifest, its golden vectors, and what its graph shows without running it."""
