"""The ``edge-agent`` command: one module a verb."""
