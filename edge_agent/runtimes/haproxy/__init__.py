"""HAProxy on this device: its process, its socket, and the router that services of an engine are behind."""
