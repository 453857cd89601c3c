"""What the device has on record: what is desired, what was done, as values, and the database that keeps them."""
