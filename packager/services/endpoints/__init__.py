"""Endpoints: several versions of a service behind one address, each with a share of the requests."""
