"""From the desired state to the running one: a pure plan, the runner that executes it, the health check, the report."""
