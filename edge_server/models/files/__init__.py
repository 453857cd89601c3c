"""Model files: the manifest and golden vectors beside them, and what their graph shows without a run."""
