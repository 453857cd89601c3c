"""Untrusted models are opened in a process of their own, confined as far as the kernel allows."""
