"""The device: imports packages, verifies, runs, watches, rolls back, reports."""
