"""HTTP/1.1 over asyncio: connections, framing, limits, TLS. It knows nothing of models."""
