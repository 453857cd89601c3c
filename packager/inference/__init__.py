"""What runs the models of an image besides the server: entry scripts."""
