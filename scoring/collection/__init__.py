"""Collected inputs and outputs, in a bounded ring of CSV files."""
