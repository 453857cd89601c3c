"""Measurements, each printed as a ratio to a yardstick or to a limit printed beside it."""
