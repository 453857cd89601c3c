"""Where a device gets packages from, and what it gives to others."""
