"""What goes into layers: the server, bytecode, compression, paths, and the search for credentials."""
