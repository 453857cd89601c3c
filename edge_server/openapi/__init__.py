"""What the service takes and answers, told as Swagger 2 or OpenAPI 3, and as a page."""
