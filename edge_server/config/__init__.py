"""The service's configuration: values, service.json, and the environment's overrides."""
