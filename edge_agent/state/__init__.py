"""What the device remembers: records as values, and the database that keeps them."""
