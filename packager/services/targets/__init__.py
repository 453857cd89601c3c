"""Where services run: each kind of place keeps the one protocol of ``base``."""
