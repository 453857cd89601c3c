"""Measurements, each printed as a ratio to a yardstick or a limit that stands beside it."""
