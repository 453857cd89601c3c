"""Running models: sessions, threads, memory, and requests joined into one run."""
