"""Describes what the service takes and answers as Swagger 2 or OpenAPI 3, and as a page."""
