"""Model files: which there are, their manifest, and how they are opened and checked."""
