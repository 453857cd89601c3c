"""What samples a schema can be made of: numpy, pandas, Spark and plain Python values."""
