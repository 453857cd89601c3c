"""Types whose samples a schema can be made from: numpy, pandas and plain Python values."""
