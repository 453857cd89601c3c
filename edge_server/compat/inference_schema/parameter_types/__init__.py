"""What samples a schema can be made of: numpy, pandas and plain Python values."""
