"""Seeing inside: metrics, log lines of requests, trace context."""
