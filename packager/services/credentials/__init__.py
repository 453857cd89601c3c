"""What callers of services show: two keys, or tokens that a key of the service signs; kept on this workstation."""
