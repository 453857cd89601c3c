"""The vocabulary that recipes write graphs with."""
