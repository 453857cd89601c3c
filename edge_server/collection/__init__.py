"""Inputs and outputs of models, kept in a ring of CSV files that never grows beyond its quota."""
