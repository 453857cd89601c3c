"""Deployment configurations: how a service is to run, by the kind of its target."""
