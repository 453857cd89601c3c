"""The user's own package, with a name of its own choice; docs/how-to/serve.md lists the few names that are taken."""
