"""Tar archives: read strictly as a stream or by an index, written with one form of header, and compressed."""
