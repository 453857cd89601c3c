"""Bundles: images with their statements in one tar with one signed list, for devices that no network reaches.

The verbs are ``write_bundle`` on the workstation and ``import_bundle`` on the device; a ``Receipt`` goes the other way
and says what the device holds.
"""
