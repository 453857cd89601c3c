"""HTTP/1.1 over asyncio: connections, framing, limits, TLS. It is independent of models."""
