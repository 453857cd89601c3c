"""Routers: HAProxy shares the requests of an endpoint out among versions of a service."""
