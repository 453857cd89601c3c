"""What a user hands over: the files of a model, and the Python modules that belong to it."""
