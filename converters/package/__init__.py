"""A converted model's files: what came in, the manifest, and the cache of conversions."""
