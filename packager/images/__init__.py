"""Images: planned, built and inspected."""
