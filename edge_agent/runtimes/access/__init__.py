"""What a service is given of its device: found and checked before the service is started, and handed to its runtime."""
