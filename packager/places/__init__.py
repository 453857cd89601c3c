"""The places that images come from and go to."""
