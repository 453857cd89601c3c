"""How layers are made: bytecode, compression, rules for what is left out, and the search for credentials."""
