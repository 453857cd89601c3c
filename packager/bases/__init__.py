"""Base images: built from Debian's packages, or taken from a registry, a layout, an archive or an engine."""
