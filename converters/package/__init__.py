"""A converted model's files: the package, its manifest, and the cache of conversions."""
