"""The check of manifests: their schema, and the rules that a schema cannot have."""
